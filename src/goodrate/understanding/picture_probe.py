"""A describer without a language model: multinomial regression on frozen features of pictures and texts.

One head an attribute, fitted on the items whose value the shop states. A quarter of those items is held out: they
choose the regularisation and the temperature, and from which probability on the head answers: below, it says nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from goodrate.catalog.items import Catalog
from goodrate.catalog.normal_form import normal_text
from goodrate.catalog.text_hash import hash_texts
from goodrate.relevance.calibration import fit_temperature, softmax
from goodrate.strict_json import dumps, read_object
from goodrate.understanding.attribute_guess import AttributeGuess, Picture
from goodrate.understanding.attribute_values import answerable, open_values, said_alike, stated_values
from goodrate.understanding.picture_features import PictureFeatures, open_features
from goodrate.understanding.probe_features import ProbeFeatures

KIND = "picture_probe"
CARD, WEIGHTS = "describer.json", "describer.safetensors"
FORMAT = 1
HELD_OUT = 4  # of the stated items one in so many is not learned from
STRENGTHS = (0.1, 1.0, 10.0)  # of which held-out items choose the inverse regularisation
FEWEST = 20  # held-out answers that a threshold needs
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ProbeHead:
    """One attribute. values (V,) as the shop spells them. weights (F, V), bias (V,). temperature of the logits.

    threshold: the probability from which it answers, None = it never does. learned, held_out: items. precision,
    answered: of the held-out items, at the threshold; accuracy: of all of them without one, beside majority, that of
    always saying the commonest value.
    """

    attribute: str
    values: tuple[str, ...]
    weights: np.ndarray
    bias: np.ndarray
    temperature: float
    threshold: float | None
    learned: int
    held_out: int
    accuracy: float | None
    majority: float | None
    precision: float | None
    answered: float

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        """(N, V) of features (N, F)."""
        return softmax(rows @ self.weights + self.bias, self.temperature)


class PictureProbeDescriber:
    """A Describer; see the module. name: the source that its values are stored under."""

    def __init__(self, features: ProbeFeatures, heads: Sequence[ProbeHead], name: str = "picture probe") -> None:
        self.features, self.heads, self.name = features, tuple(heads), name

    @property
    def fingerprint(self) -> str:
        """Of the features and all heads."""
        digest = hashlib.sha256(self.features.fingerprint.encode())
        for head in self.heads:
            told = [head.attribute, list(head.values), head.temperature, head.threshold]
            digest.update(dumps(told).encode() + head.weights.tobytes() + head.bias.tobytes())
        return digest.hexdigest()[:16]

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """What it learned: attribute -> values."""
        return {head.attribute: head.values for head in self.heads}

    def describe(
        self, items: Catalog, images: Sequence[Picture], attributes: Mapping[str, Sequence[str]]
    ) -> list[list[AttributeGuess]]:
        """See Describer. An attribute that it has not learned gets no value."""
        if len(items) != len(images):
            raise ValueError(f"{len(items)} items and {len(images)} pictures; expected as many")
        found: list[list[AttributeGuess]] = [[] for _ in images]
        if not found:
            return found
        asked = open_values(attributes)
        rows = self.features.rows(items.frame, images)
        for head in self.heads:
            allowed = asked.get(normal_text(head.attribute))
            if allowed is None or head.threshold is None:
                continue
            p = head.probabilities(rows)
            open_to = np.array([not allowed or normal_text(value) in allowed for value in head.values])
            best = p.argmax(axis=1)
            sure = np.flatnonzero((p.max(axis=1) >= head.threshold) & open_to[best])
            for row in sure.tolist():
                found[row].append(AttributeGuess(head.attribute, head.values[best[row]], float(p[row, best[row]])))
        return found

    def save(self, folder: Path) -> None:
        """Write the folder's files; the caller makes the folder appear whole."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        arrays = dict(self.features.arrays())
        for number, head in enumerate(self.heads):
            arrays |= {f"weights {number}": head.weights, f"bias {number}": head.bias}
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / WEIGHTS)
        plain = [{k: v for k, v in vars(head).items() if k not in ("weights", "bias")} for head in self.heads]
        card = {"format": FORMAT, "kind": KIND, "name": self.name, "features": self.features.card(), "heads": plain}
        (folder / CARD).write_text(dumps(card, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> PictureProbeDescriber:
        """Read a folder. FileNotFoundError where there is none, ValueError for one that is broken or another kind."""
        from safetensors.numpy import load_file

        from goodrate.models.pretrained import readable

        folder = Path(folder)
        if not (folder / CARD).is_file():
            raise FileNotFoundError(f"{folder}: no {CARD} there; expected a folder `describer` that goodrate "
                                    "understand --vision wrote")  # fmt: skip
        card = read_object(folder / CARD)
        if (card.get("format"), card.get("kind")) != (FORMAT, KIND):
            raise ValueError(f"{folder / CARD}: not a {KIND} of format {FORMAT}; fit it again with goodrate understand "
                             "--vision")  # fmt: skip
        with readable(folder):
            arrays = load_file(folder / WEIGHTS)
            features = ProbeFeatures.of(card["features"], arrays)
            heads = [
                ProbeHead(**{**one, "values": tuple(one["values"])}, weights=arrays[f"weights {n}"],
                          bias=arrays[f"bias {n}"])
                for n, one in enumerate(card["heads"])
            ]  # fmt: skip
        return cls(features, heads, str(card["name"]))


def fit_probe(
    items: Catalog, images: Sequence[Picture], pictures: PictureFeatures | str, *,
    attributes: Sequence[str] | None = None, precision: float = 0.9, use_text: bool = True, seed: int = 0,
    same: Mapping[str, str] | None = None, progress: Progress = lambda what, done, total: None,
) -> PictureProbeDescriber:  # fmt: skip
    """Learn the attributes that enough items state (attribute_values.answerable) from their pictures and texts.

    images: one an item, None without; a sequence that reads files as it is asked is fine. precision: the share of its
    answers on held-out items that must be right; an attribute that does not reach it is learned and never answered.
    use_text: whether title, description, brand and category are read beside the picture. same: values in other words,
    "crimson" -> "red"; the head learns and says the second. Raises ValueError where no attribute can be learned.
    """
    if not 0 < precision <= 1:
        raise ValueError(f"precision {precision:g}: expected a share above 0, at most 1")
    if len(items) != len(images):
        raise ValueError(f"{len(items)} items and {len(images)} pictures; expected as many")
    stated = said_alike(stated_values(items), same or {})
    wanted = answerable(stated, attributes)
    if not wanted:
        raise ValueError("no attribute of the catalogue has two values that eight items state each; nothing to learn")
    extractor = open_features(pictures) if isinstance(pictures, str) else pictures
    features, rows = ProbeFeatures.fitted(items.frame, images, extractor, use_text, seed, progress)
    held = _held_out(items.frame, seed)
    heads = []
    for number, (attribute, values) in enumerate(wanted.items()):
        heads.append(_head(attribute, values, stated, rows, held, precision))
        progress("learning attributes", number + 1, len(wanted))
    return PictureProbeDescriber(features, heads)


def _held_out(frame: pl.DataFrame, seed: int) -> np.ndarray:
    """(N,) whether an item is not learned from; the variants of one thing go together."""
    group = frame.select(group=pl.when(pl.col("parent_id") != "").then("parent_id").otherwise("id"))["group"]
    hashed = hash_texts((group + f" {seed}").to_arrow())
    return hashed % HELD_OUT == 0


def _head(
    attribute: str, values: Sequence[str], stated: pl.DataFrame, rows: np.ndarray, held: np.ndarray, precision: float
) -> ProbeHead:
    """The head of one attribute; refitted on all stated items once held-out ones have chosen its settings."""
    place, target = _targets(attribute, values, stated)
    learned, tested = place[~held[place]], place[held[place]]
    own, gold = target[~held[place]], target[held[place]]
    if len(np.unique(own)) < len(values) or not len(tested):
        learned, own, tested, gold = place, target, place[:0], target[:0]
    fits = [_regression(rows[learned], own, len(values), strength) for strength in STRENGTHS]
    if len(tested):
        logits = [rows[tested] @ weights + bias for weights, bias in fits]
        loss = [-np.log(np.maximum(softmax(z)[np.arange(len(gold)), gold], 1e-12)).mean() for z in logits]
        best = int(np.argmin(loss))
    else:
        best, logits = 1, [np.zeros((0, len(values)))] * len(fits)
    temperature = _temperature(logits[best], gold)
    p = softmax(logits[best], temperature)
    threshold, right, answered = chosen_threshold(p.max(axis=1, initial=0.0), p.argmax(axis=1) == gold, precision)
    weights, bias = _regression(rows[place], target, len(values), STRENGTHS[best])
    common = np.bincount(own, minlength=len(values)).argmax()
    return ProbeHead(
        attribute, tuple(values), weights, bias, temperature, threshold, len(place), len(tested),
        accuracy=float((p.argmax(axis=1) == gold).mean()) if len(gold) else None,
        majority=float((gold == common).mean()) if len(gold) else None, precision=right, answered=answered,
    )  # fmt: skip


def _targets(attribute: str, values: Sequence[str], stated: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The items (K,) that state one of the values and no second one, and which (K,)."""
    own = stated.filter((pl.col("attribute") == normal_text(attribute)) & (pl.len().over("row", "attribute") == 1))
    known = pl.DataFrame({"value": [normal_text(v) for v in values], "target": np.arange(len(values))})
    found = own.join(known, on="value").sort("row")
    return found["row"].to_numpy(), found["target"].to_numpy()


def _regression(rows: np.ndarray, target: np.ndarray, classes: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """(F, V) and (V,), float32; a class that is not there gets no weight."""
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression(C=strength, max_iter=200, tol=1e-3).fit(rows, target)
    coefficients, intercept = found.coef_, found.intercept_
    if len(found.classes_) == 2:  # one row, for the second class
        coefficients, intercept = np.concatenate([-coefficients, coefficients]) / 2, np.array([-1, 1]) * intercept / 2
    weights = np.zeros((rows.shape[1], classes), dtype=np.float32)
    bias = np.full(classes, -30.0, dtype=np.float32)
    weights[:, found.classes_], bias[found.classes_] = coefficients.T, intercept
    return weights, bias


def _temperature(logits: np.ndarray, gold: np.ndarray) -> float:
    """Of the held-out items; 1 where they do not tell it."""
    try:
        return fit_temperature(logits, gold)
    except ValueError:
        return 1.0


def chosen_threshold(
    confidence: np.ndarray, right: np.ndarray, precision: float
) -> tuple[float | None, float | None, float]:
    """The least confidence from which a share `precision` of the answers is right, that share, and that of answers.

    confidence, right: (N,) of held-out items. (None, None, 0) where no FEWEST answers or more reach it.
    >>> chosen_threshold(np.linspace(1, 0, 100), np.arange(100) < 30, 1.0)[2]
    0.3
    """
    order = np.argsort(-confidence, kind="stable")
    sure, hits = confidence[order], np.cumsum(right[order])
    count = np.arange(1, len(order) + 1)
    last = np.append(sure[1:] != sure[:-1], True) if len(sure) else np.zeros(0, dtype=bool)  # of those equally sure
    usable = np.flatnonzero(last & (count >= FEWEST) & (hits >= precision * count - 1e-9))
    if not len(usable):
        return None, None, 0.0
    end = int(usable[-1])
    return float(sure[end]), float(hits[end] / count[end]), float(count[end] / len(order))
