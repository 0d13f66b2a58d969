"""A language model with the vocabulary of one shop: smaller, and faster to train and to judge with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate import strict_json

if TYPE_CHECKING:
    from goodrate.catalog.items import Catalog
    from goodrate.models.causal_lm import CausalLM

TRIM_FILE = "trim.json"
WORD = re.compile(r"[^\W\d_]")  # a cell without a letter is a number or an id
LINES = (".txt", ".md")  # read line by line; other files are tables
PROBES, PROBE_TOKENS = 8, 64  # texts on which the logits of both models are compared
KEPT_FILES = ("LICENSE*", "NOTICE*", "USE_POLICY*", "rules.toml", "trained_on.json")  # of the model's folder


@dataclass(frozen=True)
class Trimmed:
    """What was cut. vocabulary, bytes: (before, after), bytes of weights and tokenizer. sources: sha256 by file,
    read_as: how many items, cells or lines each has.

    share_kept: of the tokens of the texts, each counted once in an item or cell. largest_gap: between the logits of the
    whole and the trimmed model on some of the texts.
    """

    model: str
    model_hash: str | None
    sources: dict[str, str]
    read_as: dict[str, str]
    min_count: int
    vocabulary: tuple[int, int]
    bytes: tuple[int, int]
    documents: int
    share_kept: float
    largest_gap: float


def trim(
    model: str | Path, texts: Sequence[str | Path | Catalog], out: str | Path, *, format: str | None = None,
    map: Mapping[str, str] | None = None, skip_bad: int = 0, min_count: int = 1,
    decimal: str | None = None, currency: str | None = None,
) -> Trimmed:  # fmt: skip
    """Write a model folder whose vocabulary is what texts, prompts and reasons need, with the logits of the whole one.

    model: folder or hub id of a causal LM, or a judge's folder, whose judge.json goes with it. texts: catalogues,
    rendered as judges read them; other tables, of which every cell is read; .txt files, line by line. format, map,
    skip_bad, decimal, currency: as read_catalog, for the catalogues. min_count: tokens that fewer items or cells have
    are cut, too. out: a folder that is not there; where it holds the same already, nothing is done.

    Words that need a token that was cut are read in smaller pieces or bytes, never wrongly. Raises ValueError for a
    tokenizer that has no bytes to fall back on, an adapter, and an `out` that holds something else.
    """
    from goodrate.models.nano import nano_folder
    from goodrate.models.pretrained import folder_hash
    from goodrate.run_folder import new_folder

    if min_count < 1:
        raise ValueError(f"min_count {min_count}: expected 1 or more")
    if not texts:
        raise ValueError("no texts to take the vocabulary from; give a catalogue, and queries where you have some")
    folder = nano_folder() if str(model) == "nano" and not Path(model).exists() else Path(model).expanduser()
    wanted: dict[str, Any] = {
        "model": str(model),
        "model_hash": folder_hash(folder) if folder.is_dir() else None,
        "sources": {_name(source, n): _hash(source) for n, source in enumerate(texts)},
        "min_count": min_count,
    }
    if len(wanted["sources"]) < len(texts):
        raise ValueError("the same file is named twice among the texts")
    done = _done(Path(out), wanted)
    if done is not None:
        return done
    reading = {"format": format, "map": map, "skip_bad": skip_bad, "decimal": decimal, "currency": currency}
    read = {name: _documents(s, reading) for name, s in zip(wanted["sources"], texts, strict=True)}
    wanted["read_as"] = {name: f"{len(documents):,} {kind}" for name, (kind, documents) in read.items()}
    documents = [document for _, documents in read.values() for document in documents]
    with new_folder(out) as beside:
        return _write(folder if folder.exists() else str(model), documents, wanted, beside)


def _done(out: Path, wanted: Mapping[str, Any]) -> Trimmed | None:
    """What lies in `out` if it is what is wanted; None where nothing is. ValueError for anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        found = strict_json.read_object(out / TRIM_FILE)
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found.items()}
        card = Trimmed(**values)
    except (OSError, ValueError, TypeError, AttributeError):
        raise ValueError(f"{out} is there and holds no trimmed model; choose another --out or remove it") from None
    differing = [name for name, value in wanted.items() if getattr(card, name) != value]
    if differing:
        name = differing[0]
        raise ValueError(
            f"{out} holds another trimmed model ({name} {getattr(card, name)!r}, not {wanted[name]!r}); "
            "choose another --out or remove the folder"
        )
    return card


def _write(model: str | Path, documents: list[list[str]], wanted: dict[str, Any], folder: Path) -> Trimmed:
    """Trim into an empty folder, reopen what was written and compare it with the whole model."""
    from goodrate.models import trimming
    from goodrate.models.causal_lm import CausalLM
    from goodrate.models.pretrained import read_tokenizer
    from goodrate.models.trimmed_tokenizer import BytePairs

    whole = trimming.read_whole(model)
    network, pairs, card = whole.network, BytePairs(whole.tokenizer, str(model)), _lm_card(model)
    counts = trimming.count_tokens(whole, documents)
    vocabulary = trimming.choose(whole, pairs, counts, _needed(whole, card), wanted["min_count"])
    new = vocabulary.new_ids
    rows = [[i for i in whole.encode(texts[0])[:PROBE_TOKENS] if i in new] for texts in _some(documents)]
    before = trimming.probe_logits(network, rows, vocabulary.order)
    rows_before, bytes_before = network.get_input_embeddings().weight.shape[0], trimming.size_in_bytes(network)
    trimming.save_trimmed(whole, pairs, vocabulary, folder)
    trimming.require_same_tokens(whole.tokenizer, read_tokenizer(str(folder)), vocabulary, documents)
    trimmed = CausalLM.load(folder, dtype="auto", device="cpu").network
    after = trimming.probe_logits(trimmed, [[new[i] for i in row] for row in rows], range(len(new)))
    done = Trimmed(
        **wanted, vocabulary=(rows_before, len(new)), bytes=(bytes_before, trimming.size_in_bytes(trimmed)),
        documents=len(documents), share_kept=vocabulary.share_kept,
        largest_gap=trimming.require_same_logits(before, after, trimmed.dtype),
    )  # fmt: skip
    _write_cards(Path(model), folder, done, card, new)
    return done


def _some(documents: Sequence[list[str]]) -> Sequence[list[str]]:
    """A few documents from all over."""
    return documents[:: max(1, len(documents) // PROBES)]


def _lm_card(model: str | Path) -> Any:
    """The judge.json of a folder whose model judges, None where there is none."""
    from goodrate.relevance.judge_card import CARD_FILE, read_judge_card

    return read_judge_card(model) if (Path(model) / CARD_FILE).is_file() else None


def _needed(whole: CausalLM, card: Any) -> set[int]:
    """Ids of what every judge reads and writes, in a chat too, and of this one's labels."""
    from goodrate.models.trimming import count_tokens
    from goodrate.relevance.house_texts import house_texts
    from goodrate.relevance.rulebook import DEFAULT_RULES, load_rulebook

    own = Path(whole.network.name_or_path) / "rules.toml"
    books = [load_rulebook(path) for path in (DEFAULT_RULES, own) if path.is_file()]
    texts = [text for book in books for text in house_texts(book)]
    needed = set(count_tokens(whole, [[*texts, *_chat_texts(whole, card)]]))
    stop = [] if card is None or card.stop_token_id is None else [card.stop_token_id]
    return needed | set((*card.label_token_ids, *card.start_token_ids) if card else ()) | set(stop)


def _chat_texts(whole: CausalLM, card: Any) -> list[str]:
    """What stands around messages: the template's own words, and those of a judge's frame."""
    from goodrate.models.chat_frame import chat_frame

    template = whole.tokenizer.chat_template
    texts = [*(card.chat_frame if card else ()), template or ""]
    with contextlib.suppress(ValueError):  # no template, or one that no prompt of ours goes into
        frame = chat_frame(whole.tokenizer)
        texts += frame.around("a", "a")
    return [str(text) for text in texts if text]


def _write_cards(model: Path, folder: Path, done: Trimmed, card: Any, new: Mapping[int, int]) -> None:
    """What goes with the weights: trim.json, README.md, licences, and a judge's card with the new ids."""
    from goodrate.relevance.judge_card import write_judge_card

    for path in [path for pattern in KEPT_FILES for path in model.glob(pattern) if path.is_file()]:
        shutil.copyfile(path, folder / path.name)
    if card is not None:
        stop = None if card.stop_token_id is None else new[card.stop_token_id]
        labels, start = (tuple(new[i] for i in ids) for ids in (card.label_token_ids, card.start_token_ids))
        moved = replace(card, label_token_ids=labels, stop_token_id=stop, start_token_ids=start)
        write_judge_card(folder, moved)
    (folder / TRIM_FILE).write_text(strict_json.dumps(asdict(done), indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_readme(done), encoding="utf-8")


def _readme(done: Trimmed) -> str:
    """The model card."""
    sources = "\n".join(f"- {name}: {done.read_as[name]}, sha256 {done.sources[name]}" for name in done.sources)
    base = f"{done.model}{f' (files: {done.model_hash})' if done.model_hash else ''}"
    return (
        f"# {Path(done.model).name}, vocabulary trimmed\n\n"
        f"`goodrate trim` cut this model from {base}; the terms of that model hold for this one.\n\n"
        "| | before | after |\n|---|---|---|\n"
        f"| tokens | {done.vocabulary[0]:,} | {done.vocabulary[1]:,} |\n"
        f"| bytes of weights | {done.bytes[0]:,} | {done.bytes[1]:,} |\n\n"
        f"The vocabulary is that of {done.documents:,} texts, with bytes, digits, punctuation, special tokens, and the "
        f"words of goodrate's prompts and reasons. {done.share_kept:.2%} of their tokens were kept; texts of "
        f"kept tokens have the tokens and logits that they had (largest difference on "
        f"samples {done.largest_gap:.2g}). Other words are read in smaller pieces or bytes.\n\nTexts:\n\n{sources}\n"
    )


def _name(source: str | Path | Catalog, number: int) -> str:
    """A source as the card names it."""
    return str(source) if isinstance(source, (str, Path)) else f"catalog {number + 1}"


def _hash(source: str | Path | Catalog) -> str:
    """sha256 of a file, or of a catalogue's rows. FileNotFoundError for a file that is not there."""
    if not isinstance(source, (str, Path)):
        return hashlib.sha256(source.frame.write_ndjson().encode()).hexdigest()
    if not Path(source).is_file():
        raise FileNotFoundError(f"no such file: {source}")
    with Path(source).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _documents(source: str | Path | Catalog, reading: dict[str, Any]) -> tuple[str, list[list[str]]]:
    """What a source was read as (items, cells, lines), and the texts of each of them. reading: see read_catalog."""
    from goodrate.api.reading import read_catalog
    from goodrate.catalog.readers import is_catalog
    from goodrate.relevance.house_texts import item_prompts, loose_prompts

    if not isinstance(source, (str, Path)):
        return "items", item_prompts(source.frame.to_dicts())
    if Path(source).suffix in LINES:
        kind, texts = "lines", Path(source).read_text(encoding="utf-8-sig").splitlines()
    elif is_catalog(source, reading["format"], dict(reading["map"] or {})):
        return "items", item_prompts(read_catalog(source, **reading).frame.to_dicts())
    else:
        kind, texts = "cells", _cells(Path(source))
    return kind, [loose_prompts(text) for text in dict.fromkeys(texts) if WORD.search(text)]


def _cells(path: Path) -> list[str]:
    """Every text of a table, those inside lists and objects, too."""
    from goodrate.catalog.tables import EXTRAS, read_table

    rows = read_table(path, ()).frame[EXTRAS].to_list()
    return [text for row in rows for text in _strings(json.loads(row or "{}"))]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _strings(inner)
