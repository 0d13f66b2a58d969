"""Fill in attributes that items leave out, from their pictures and texts, and keep them apart from the shop's own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from goodrate.catalog.items import Catalog
    from goodrate.relevance.judge import CalibratedJudge
    from goodrate.relevance.protocol import Judge
    from goodrate.retrieval.store import Store
    from goodrate.understanding.attribute_guess import Describer, Picture
    from goodrate.understanding.picture_probe import PictureProbeDescriber

BATCH = 64  # items between two writings: what an interruption can cost
DESCRIBER, DESCRIBED, CATALOG, GUESSES = "describer", "described.jsonl", "catalog.parquet", "inferred.parquet"
Progress = Callable[[str, int, int], None]
Guesses = dict[str, tuple[str, float]]  # attribute -> (value, confidence)


@dataclass(frozen=True)
class Described:
    """What was filled in. items: the catalogue with it (column inferred_attributes). guesses: id, attribute, value,
    confidence, source, model, a row for each value that an item does not state itself. asked: attribute -> values that
    were possible. computed: items that the describer was asked about now; the others were known from a run before.
    """

    items: Catalog
    guesses: pl.DataFrame
    source: str
    asked: Mapping[str, Sequence[str]]
    computed: int
    catalog: Path | None = None

    def __len__(self) -> int:
        return len(self.guesses)


def fit_describer(
    items: Catalog, folder: str | Path, vision: str = "pixels", images: Sequence[Picture] | None = None, *,
    attributes: Sequence[str] | None = None, precision: float = 0.9, use_text: bool = True,
    same: Mapping[str, str] | str | Path | None = None, progress: Progress = lambda what, done, total: None,
) -> PictureProbeDescriber:  # fmt: skip
    """Learn attributes from the items that state them, without a language model, and write the describer's folder.

    vision: the folder or hub id of a network of pictures, or "pixels" for plain statistics. images: one an item; None =
    those that the catalogue was read with. precision: what an attribute must reach on held-out items to be answered.
    same: values in other words, "crimson" -> "red"; or a file of synonyms (docs/spelling_and_synonyms.md), of which the
    one that most items state is said. Raises ValueError where nothing can be learned.
    """
    from goodrate.run_folder import new_folder
    from goodrate.understanding.picture_probe import fit_probe

    pictures = _Pictures(items) if images is None else images
    same = _commonest_words(items, same) if isinstance(same, str | Path) else same
    found = fit_probe(items, pictures, str(vision), attributes=attributes, precision=precision, use_text=use_text,
                      same=same, progress=progress)  # fmt: skip
    with new_folder(folder) as beside:
        found.save(beside)
    return found


def _commonest_words(items: Catalog, path: str | Path) -> dict[str, str]:
    """Each stated value -> that of its synonyms in a file, itself included, which most items state."""
    from goodrate.retrieval.rewriting.synonyms import Synonyms
    from goodrate.retrieval.rewriting.words import comparable
    from goodrate.understanding.attribute_values import stated_values

    others = Synonyms.read(path).others
    counts = dict(stated_values(items)["value"].value_counts(name="items").rows())
    found = {}
    for value in counts:
        named = {comparable(one): one for one in [value, *others.get(comparable(value), ())]}
        stated = [one for one in counts if comparable(one) in named] if len(named) > 1 else [value]
        found[value] = min(stated, key=lambda one: (-counts[one], one))
    return found


def open_describer(folder: str | Path) -> Describer:
    """The describer of a folder: one of fit_describer, or a trained product_vision_language.

    Raises FileNotFoundError for a folder with neither, ValueError for one that is broken.
    """
    from goodrate.understanding.picture_probe import CARD, PictureProbeDescriber

    if not Path(folder).is_dir():
        raise FileNotFoundError(f"--model {folder}: there is no such folder; goodrate understand --vision makes one")
    if (Path(folder) / CARD).is_file():
        return PictureProbeDescriber.load(folder)
    from goodrate.recipes.product_vision_language import open_describer as open_trained

    return open_trained(folder)


def describe(
    items: Catalog, model: str | Path | Describer, images: Sequence[Picture] | None = None, *,
    out: str | Path | None = None, index: str | Path | None = None, source: str | None = None,
    attributes: Sequence[str] | None = None, act_from: float | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Described:  # fmt: skip
    """Fill in what items do not state. What the shop says is never changed, and what other sources said stays.

    model: the folder of a describer, or one. images: one an item, as bytes, pixels (H, W, 3) or None; None = those that
    the catalogue was read with. out: a folder for catalog.parquet, which `goodrate index` reads, and inferred.parquet.
    index: an index folder, whose items of these ids get the values. source: the name under which they are kept, and
    replaced by the next run; None = the describer's. attributes: those to fill in; None = all that it knows. act_from:
    the confidence from which the index finds, filters and counts them. In `out`, or in the index without it, every
    answer is kept by the hash of item, picture and model: a run that was cut off goes on, and an unchanged item is not
    asked about again. Raises ValueError for an item whose picture cannot be read.
    """
    from goodrate.catalog.inferred import INFERRED, layer_of, replaced
    from goodrate.catalog.items import Catalog
    from goodrate.retrieval.store import Store as Opened

    describer = open_describer(model) if isinstance(model, str | Path) else model
    store = Opened.open(index) if index is not None else None
    asked = _asked(items, describer, attributes)
    pictures = _Pictures(items) if images is None else images
    if len(pictures) != len(items):
        raise ValueError(f"{len(items)} items and {len(pictures)} pictures; expected one, or None, for each item")
    folder = Path(out) if out is not None else Path(index) if index is not None else None
    guesses, computed = _guesses(items, describer, pictures, asked, folder, progress)
    unstated = _unstated(items, guesses)
    name = source or describer.name
    column = layer_of(unstated, name, describer.fingerprint)
    whole = items.frame.with_columns(replaced(items.frame[INFERRED], column, {name}))
    filled = Catalog(whole, items.skipped, items.notes, items.skipped_ids, plain=True, pictures=items.pictures)
    table = _table(items, column)
    if store is not None:
        _into_index(store, items.ids, column, name, act_from)
    written = _written(Path(out), filled, table) if out is not None else None
    return Described(filled, table, name, asked, computed, written)


def pictured(judge: Judge | CalibratedJudge, store: Store) -> CalibratedJudge:
    """A judge that sees the pictures of an index, if it is one that sees and the index knows where they are."""
    from goodrate.relevance.judge import as_calibrated

    whole = as_calibrated(judge)
    if store.manifest.images is None:
        return whole
    from goodrate.retrieval.pictures import pictures_of

    return whole.with_pictures(pictures_of(store))


class _Pictures(Sequence["Picture"]):
    """The pictures of a catalogue, read when they are asked for."""

    def __init__(self, items: Catalog) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        try:
            return self._items.picture(place)
        except ValueError as error:
            raise ValueError(f"picture of item {self._items.ids[place]!r}: expected {error}") from None


def _asked(items: Catalog, describer: Describer, names: Sequence[str] | None) -> dict[str, list[str]]:
    """Attribute -> possible values: those that the describer learned, else those that enough items state."""
    from goodrate.catalog.normal_form import normal_text
    from goodrate.understanding.attribute_values import answerable, stated_values

    learned = getattr(describer, "attributes", None)
    if not isinstance(learned, Mapping):
        return answerable(stated_values(items), names)
    known = {normal_text(name): (name, list(values)) for name, values in learned.items()}
    wanted = list(known) if names is None else [normal_text(name) for name in names]
    lacking = next((name for name in wanted if name not in known), None)
    if lacking is not None:
        raise ValueError(f"attribute {lacking!r}: {describer.name} knows {', '.join(learned) or 'none'}")
    return dict(known[name] for name in wanted)


def _guesses(
    items: Catalog, describer: Describer, pictures: Sequence[Picture], asked: Mapping[str, Sequence[str]],
    folder: Path | None, progress: Progress,
) -> tuple[list[Guesses], int]:  # fmt: skip
    """What the describer says of each item, and how many it was asked about now."""
    from goodrate.understanding.answers_kept import KeptAnswers

    kept = KeptAnswers(folder / DESCRIBED if folder is not None else None)
    texts = items.frame.select("title", "description", "brand", "category", "price", "attributes").rows()
    asking = f"{describer.fingerprint} {sorted((name, list(values)) for name, values in asked.items())!r}"
    said: list[Guesses] = []
    keys: list[str] = []
    computed = 0
    for start in range(0, len(items), BATCH):
        batch = list(pictures[start : start + BATCH])
        own = [_key(asking, text, one) for text, one in zip(texts[start : start + BATCH], batch, strict=True)]
        missing = [place for place, key in enumerate(own) if key not in kept]
        if missing:
            some = type(items)(items.frame[[start + place for place in missing]], plain=True)
            told = describer.describe(some, [batch[place] for place in missing], asked)
            kept.add({own[place]: {one.attribute: (one.value, one.confidence) for one in guesses}
                      for place, guesses in zip(missing, told, strict=True)})  # fmt: skip
            computed += len(missing)
        keys += own
        said += [kept[key] for key in own]
        progress("describing items", len(said), len(items))
    kept.keep(keys)
    return said, computed


def _key(asking: str, text: tuple[Any, ...], picture: Picture) -> str:
    """A hash of all that an answer hangs on."""
    digest = hashlib.sha256(asking.encode() + repr(text).encode())
    if picture is not None:
        digest.update(picture if isinstance(picture, bytes) else repr(picture.shape).encode() + picture.tobytes())
    return digest.hexdigest()[:24]


def _unstated(items: Catalog, guesses: Sequence[Guesses]) -> list[Guesses]:
    """The guesses without those of attributes that the items state themselves."""
    from goodrate.catalog.inferred import OWN_COLUMNS
    from goodrate.catalog.normal_form import normal_text
    from goodrate.understanding.attribute_values import stated_values

    own = set(stated_values(items).select("row", "attribute").rows())
    for name in OWN_COLUMNS:
        own |= {(row, name) for row, value in enumerate(items.frame[name]) if value}
    return [
        {name: guess for name, guess in said.items() if (row, normal_text(name)) not in own}
        for row, said in enumerate(guesses)
    ]


def _table(items: Catalog, column: pl.Series) -> pl.DataFrame:
    """id and the entries of a column."""
    from goodrate.catalog.inferred import FIELDS, entries_of

    entries = entries_of(column)
    return entries.with_columns(id=items.frame["id"].gather(entries["row"])).select("id", *FIELDS)


def _into_index(store: Any, ids: Sequence[str], column: pl.Series, source: str, least: float | None) -> None:
    from goodrate.retrieval.filled_in import act_from, fill_in
    from goodrate.retrieval.turns import writing_turn

    with writing_turn(store.path):
        fill_in(store, ids, column, source)
        if least is not None:
            act_from(store, least)


def _written(out: Path, items: Catalog, guesses: pl.DataFrame) -> Path:
    from goodrate.catalog.tables import write_table

    out.mkdir(parents=True, exist_ok=True)
    write_table(out / GUESSES, guesses)
    write_table(out / CATALOG, items.frame)
    return out / CATALOG
