"""An encoder, or a judge made of one, for a faster runtime; written only when it ranks as well as before."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from goodrate.catalog.items import Catalog
    from goodrate.catalog.judgements import Judgements
    from goodrate.models.encoder import Encoder
    from goodrate.relevance.judge import CalibratedJudge
    from goodrate.relevance.pairs import Pair

CHECK_FILE = "export_check.json"
SAME = 0.9999  # cosine: vectors that are so near everywhere may stand in one index
ROUNDS, MANY = 15, 32  # of timing, and texts of a batch
Score = Callable[[Sequence["Pair"]], np.ndarray]


@dataclass(frozen=True)
class ExportCheck:
    """An exported model beside its source, on judged lists. ndcg: nDCG@10 (source, exported) over `queries` queries of
    `pairs` pairs. largest_gap: between their scores of a pair. least_cosine: between their vectors of a text. one_ms,
    many_ms: (source, exported), medians of a single pair and of 32, in turn.
    """

    queries: int
    pairs: int
    ndcg: tuple[float, float]
    largest_gap: float
    least_cosine: float
    one_ms: tuple[float, float]
    many_ms: tuple[float, float]
    same: bool

    @property
    def lost(self) -> float:
        """nDCG@10 that the exported one has less."""
        return self.ndcg[0] - self.ndcg[1]


def export(
    model: str | Path, out: str | Path, judgements: Judgements, catalog: Catalog, *, to: str = "onnx",
    int8: bool = False, most_lost: float = 0.005, queries: int = 200,
) -> ExportCheck:  # fmt: skip
    """Write an encoder, or a judge of kind encoder or cross_encoder, for ONNX Runtime or OpenVINO.

    model: folder or hub id. out: the new folder, which opens as the old one does. judgements, catalog: the judged lists
    on which both are compared, of at most so many `queries`. to: onnx or openvino. int8: weights as bytes (onnx).
    most_lost: of nDCG@10. Vectors that are the old ones within 1e-4 of cosine keep the encoder's fingerprint, so that
    an index can be searched with either; others need an index of their own.

    Raises ValueError, and writes nothing, when more nDCG is lost, for a model of another kind, and for an `out` that is
    there; MissingExtra without the runtime.
    """
    from goodrate.run_folder import new_folder

    out = Path(out)
    if out.exists():
        raise ValueError(f"{out} is there; choose another --out or remove it")
    joined = judgements.join(catalog)
    with new_folder(out) as beside:
        source, written = _written(model, beside, to, int8)
        check = compared(source, written, joined, catalog, queries)
        if check.lost > most_lost:
            raise ValueError(
                f"{model} as {to}{' int8' if int8 else ''} loses {check.lost:.4f} of nDCG@10 "
                f"({check.ndcg[0]:.4f} to {check.ndcg[1]:.4f}), more than {most_lost:g}; nothing is written"
            )
        if check.same:
            _keep_fingerprint(beside, source, written)
        (beside / CHECK_FILE).write_text(json.dumps(asdict(check), indent=2) + "\n", encoding="utf-8")
    return check


def _written(model: str | Path, folder: Path, to: str, int8: bool) -> tuple[Any, Any]:
    """Write into an empty folder; what was read and what was written, opened: two encoders, or two judges."""
    from goodrate.api.judging import open_judge
    from goodrate.models.encoder import Encoder
    from goodrate.relevance.judge_card import CARD_FILE

    if not (Path(model) / CARD_FILE).is_file():
        encoder = Encoder.load(model, device="cpu")
        _write_encoder(encoder, folder, to, int8)
        return encoder, Encoder.load(folder, device="cpu")
    judge = open_judge(model)
    kind = getattr(getattr(judge.inner, "card", None), "kind", None)
    if kind == "cross_encoder":
        _write_cross_encoder(judge, folder, to, int8)
    elif kind == "encoder":
        _write_encoder_judge(judge, folder, to, int8)
    else:
        raise ValueError(f"{model} is a judge of kind {kind}; encoders, and judges of kind encoder and cross_encoder, "
                         "can be exported")  # fmt: skip
    return judge, open_judge(folder)


def _write_encoder(encoder: Encoder, folder: Path, to: str, int8: bool) -> None:
    from goodrate.models.exported import ExportedNetwork, write_network

    if isinstance(encoder.network, ExportedNetwork):
        raise ValueError("that encoder is exported already; export the one that it was made of")
    encoder.network.config.save_pretrained(str(folder))
    encoder.save_beside(folder)
    write_network(encoder.network, folder, to, int8, encoder.fingerprint)


def _write_cross_encoder(judge: CalibratedJudge, folder: Path, to: str, int8: bool) -> None:
    from goodrate.models.cross_encoder import HEAD_FILE
    from goodrate.relevance.cross_encoder_judge import START
    from goodrate.relevance.judge_card import CARD_FILE

    assert judge.folder is not None
    if (judge.folder / START).is_dir():  # as it is: one forward for an item's text, which is kept
        shutil.copytree(judge.folder / START, folder / START)
    _write_encoder(_inner(judge).model.encoder, folder, to, int8)
    for name in (CARD_FILE, HEAD_FILE):
        shutil.copyfile(judge.folder / name, folder / name)


def _write_encoder_judge(judge: CalibratedJudge, folder: Path, to: str, int8: bool) -> None:
    """The judge with its encoder in a folder of its own."""
    from goodrate.models.encoder import Encoder
    from goodrate.relevance.encoder_judge import write_encoder_judge

    inner = _inner(judge)
    (folder / "encoder").mkdir()
    _write_encoder(inner.encoder, folder / "encoder", to, int8)
    fingerprint = Encoder.load(folder / "encoder", device="cpu").fingerprint
    write_encoder_judge(folder, replace(inner.card, encoder="encoder", fingerprint=fingerprint))


def _inner(judge: CalibratedJudge) -> Any:
    """The judge of its kind; which kind was looked at before."""
    return judge.inner


def compared(source: Any, written: Any, joined: Judgements, catalog: Catalog, most: int) -> ExportCheck:
    """Two encoders, or two judges, on judged lists of a catalogue."""
    from goodrate.evaluation.metrics import evaluate_run
    from goodrate.relevance.pairs import Pair

    texts = dict(list(joined.queries().items())[:most])
    qrels = {query: items for query, items in joined.qrels().items() if query in texts}
    rows = {row["id"]: row for row in catalog.rows(list({i for items in qrels.values() for i in items})).to_dicts()}
    keys = [(query, item) for query, items in qrels.items() for item in items]
    pairs = [Pair(texts[query], rows[item]) for query, item in keys]
    both = [_scores(one) for one in (source, written)]
    scores = [score(pairs) for score in both]
    ndcg = []
    for found in scores:
        run: dict[str, list[tuple[str, float]]] = {}
        for (query, item), value in zip(keys, np.nan_to_num(found, nan=-1.0).tolist(), strict=True):
            run.setdefault(query, []).append((item, value))
        ndcg.append(float(evaluate_run(run, qrels, joined.scale, ["ndcg@10"])["ndcg@10"].mean() or 0.0))  # type: ignore[arg-type]
    cosine = least_cosine(_encoder(source), _encoder(written), list(texts.values())[:MANY] + _some(pairs))
    one, many = (_medians(both, pairs[:count]) for count in (1, MANY))
    gap = float(np.nanmax(np.abs(scores[0] - scores[1])))
    same = cosine >= SAME
    return ExportCheck(len(texts), len(pairs), (ndcg[0], ndcg[1]), gap, cosine, one, many, same)


def _scores(model: Any) -> Score:
    """What orders pairs: the judge's score, or the cosine of an encoder's vectors, (N,)."""
    from goodrate.models.encoder import Encoder

    if not isinstance(model, Encoder):
        score: Score = model.inner.scores
        return score

    def cosines(pairs: Sequence[Pair]) -> np.ndarray:
        from goodrate.catalog.normal_form import composed_text

        queries = list(dict.fromkeys(pair.query for pair in pairs))
        place = {query: row for row, query in enumerate(queries)}
        vectors = model.encode_queries([composed_text(query) for query in queries])
        items = model.encode_items(_item_texts(model, pairs))
        return np.einsum("nd,nd->n", vectors[[place[pair.query] for pair in pairs]], items)

    return cosines


def _encoder(model: Any) -> Encoder:
    """The text encoder inside."""
    from goodrate.models.encoder import Encoder

    if isinstance(model, Encoder):
        return model
    inner = model.inner
    encoder: Encoder = inner.encoder if hasattr(inner, "encoder") else inner.model.encoder
    return encoder


def _item_texts(encoder: Encoder, pairs: Sequence[Pair]) -> list[str]:
    from goodrate.relevance.encoder_judge import field_texts
    from goodrate.retrieval.indexing import PRETRAINED_FIELDS

    return field_texts([pair.item for pair in pairs], encoder.item_fields or PRETRAINED_FIELDS)


def _some(pairs: Sequence[Pair]) -> list[str]:
    """Texts of some of the items."""
    from goodrate.relevance.encoder_judge import field_texts

    return field_texts([pair.item for pair in pairs[:: max(1, len(pairs) // 100)]], ("title", "description"))


def least_cosine(source: Encoder, written: Encoder, texts: Sequence[str]) -> float:
    """The least cosine between both encoders' vectors of a text, short and long ones, alone and in a batch."""
    both = [
        np.concatenate([one.encode_items(texts), one.encode_items(texts[:1]), one.encode_queries(texts)])
        for one in (source, written)
    ]
    return float(np.einsum("nd,nd->n", *both).min())


def _medians(both: Sequence[Score], pairs: Sequence[Pair]) -> tuple[float, float]:
    """Milliseconds of the source and of what was written, in turn."""
    took: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for place, score in enumerate(both):
            start = time.perf_counter()
            score([replace(pair, query=f"{pair.query} {len(took[place])}") for pair in pairs])
            took[place].append(1000 * (time.perf_counter() - start))
    return float(np.median(took[0])), float(np.median(took[1]))


def _keep_fingerprint(folder: Path, source: Any, written: Any) -> None:
    """Note that the vectors are the source's: then an index that was made with one can be searched with the other."""
    from goodrate.models.exported import is_exported

    inside = folder if is_exported(folder) else folder / "encoder"
    encoder = _encoder(written)
    replace(encoder.network.card, same=True, facts=encoder.facts_hash()).write(inside)
    if inside != folder:  # an encoder judge remembers whose vectors it judges by
        from goodrate.relevance.encoder_judge import write_encoder_judge

        write_encoder_judge(folder, replace(_inner(written).card, fingerprint=_encoder(source).fingerprint))
