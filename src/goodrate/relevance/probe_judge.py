"""A linear head on the middle layers of a frozen causal language model, as a judge.

The model reads an item that was clicked and the query behind it, as a line of a shop's search log; the states over the
query's tokens, which have seen the item, are averaged and a ridge regression onto gains is fitted on labelled pairs.
Labels follow from the score by proportional odds. Ours: notes/real_judges.md has what was tried; probing of frozen
layers is old (Alain and Bengio, arXiv 1610.01644).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from goodrate.relevance.encoder_judge import field_texts
from goodrate.relevance.judge_card import CARD_FILE, JudgeCard, require_count, write_judge_card
from goodrate.relevance.odds import check_odds, label_probabilities
from goodrate.relevance.pairs import Item, Pair
from goodrate.relevance.probe_head import ProbeHead
from goodrate.relevance.protocol import Assessment
from goodrate.relevance.reason_words import explained
from goodrate.relevance.verdicts import Explanation, ReasonStep
from goodrate.scale import RelevanceScale

if TYPE_CHECKING:
    from goodrate.models.causal_lm import CausalLM

HEAD_FILE = "head.safetensors"
EXAMPLES = (  # invented: of many kinds of shop, so that none is favoured
    ("Brightway A60 LED bulb 9 W, warm white, E27, pack of 4", "warm white led bulb e27"),
    ("Norvik merino hiking socks, women, grey, two pairs", "womens wool socks"),
    ("Pinto USB-C to HDMI adapter, 4K at 60 Hz", "usb c hdmi"),
)
CLICKED, QUERY = "clicked: ", " | query:"


def search_log(examples: Sequence[tuple[str, str]] = EXAMPLES) -> str:
    """What stands before every pair: a heading and lines of (item, query) like the one to come."""
    return "Shop search log\n" + "".join(f"{CLICKED}{item}{QUERY} {query}\n" for item, query in examples)


def fitting_log(model: CausalLM) -> str:
    """The search log with as many of the examples as take a quarter of what the model can read."""
    logs = [search_log(EXAMPLES[:count]) for count in range(len(EXAMPLES), -1, -1)]
    limit = model.max_length
    return next(log for log in logs if limit is None or len(model.encode(log)) <= limit // 4 or log == logs[-1])


@dataclass(frozen=True, kw_only=True)
class Card(JudgeCard):
    """language_model: folder or hub id, and its fingerprint. layers: counted from 1. opening: see search_log.

    fields: what it reads of an item, cut to so many characters. alpha: of the ridge. slope, cuts (L - 1): from score to
    labels. labelled_pairs: how many pairs the head was fitted on; 0 = none with a label of people.
    """

    kind: ClassVar[str] = "probe"
    required: ClassVar[frozenset[str]] = frozenset(
        {"scale", "language_model", "fingerprint", "layers", "opening", "slope", "cuts"}
    )
    language_model: str
    fingerprint: str
    layers: tuple[int, ...]
    opening: str
    slope: float
    cuts: tuple[float, ...]
    fields: tuple[str, ...] = ("title", "description")
    characters: int = 160
    alpha: float = 1e4
    labelled_pairs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        from goodrate.catalog.rendering import JUDGE_FIELDS, check_fields

        check_fields(self.fields, JUDGE_FIELDS)
        check_odds(self.slope, self.cuts, len(self.relevance_scale))
        require_count("characters", self.characters, least=1)


def open_kind(folder: Path, card: JudgeCard) -> ProbeJudge:
    """The judge of a folder.

    Raises FileNotFoundError when its model is missing, ValueError when it is another one than the card was made with.
    """
    assert isinstance(card, Card)
    model = open_model(card.language_model, folder)
    if model_fingerprint(model) != card.fingerprint:
        raise ValueError(f"{folder}: {card.language_model} is another model than this judge was made with; fit it anew")
    dimension = int(model.network.config.hidden_size) * len(card.layers)
    return ProbeJudge(model, card, ProbeHead.load(folder / HEAD_FILE, dimension))


def open_model(name: str, folder: Path | None = None) -> CausalLM:
    """The language model of a judge. FileNotFoundError that names the judge's card where it is missing.

    On a CPU it computes in fp32: short texts are read 1.6 times as fast as in bf16 (Gemma 3 270M, avx512_bf16), and
    what a pair gives hangs less on its neighbours.
    """
    from goodrate.models.causal_lm import CausalLM
    from goodrate.models.precision import default_device

    precision = "fp32" if default_device().type == "cpu" else "auto"
    try:
        return CausalLM.load(name, precision=precision)
    except FileNotFoundError as error:
        if folder is None:
            raise
        raise FileNotFoundError(f"{folder / CARD_FILE} names a language model that is missing: {error}") from error


def model_fingerprint(model: CausalLM) -> str:
    """16 hex of sha256 over the weights and the vocabulary of a loaded model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().cpu().numpy().tobytes())
    digest.update(str(sorted(model.tokenizer.get_vocab().items())).encode())
    return digest.hexdigest()[:16]


def write_probe_judge(folder: Path, card: Card, head: ProbeHead) -> None:
    """Make a judge folder."""
    folder.mkdir(parents=True, exist_ok=True)
    head.save(folder / HEAD_FILE)
    write_judge_card(folder, card)


class ProbeReader:
    """From pairs to features (N, D): the part of a probe that has nothing to learn."""

    def __init__(
        self, model: CausalLM, layers: Sequence[int], opening: str, fields: Sequence[str], characters: int
    ) -> None:
        from goodrate.models.layer_states import LayerStates

        self.model, self.fields, self.characters = model, tuple(fields), characters
        self._states = LayerStates(model, opening, layers)

    @property
    def dimension(self) -> int:
        """D."""
        return self._states.dimension

    def reads(self, items: Sequence[Item]) -> list[str]:
        """The fields of each item, cut."""
        return [text[: self.characters] for text in field_texts(items, self.fields)]

    def fits(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Whether the model can take each pair, bool (N,)."""
        return np.asarray([self._states.takes(line) for line in self.lines(pairs)], dtype=bool)

    def features(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Mean states over the query's tokens, (N, D) float32. ValueError for a pair that is too long."""
        return self._states(self.lines(pairs))

    def lines(self, pairs: Sequence[Pair]) -> list[tuple[str, str]]:
        """Each pair as the two parts of a line of the log."""
        texts = self.reads([pair.item for pair in pairs])
        return [(f"{CLICKED}{text}{QUERY}", f" {pair.query}\n") for text, pair in zip(texts, pairs, strict=True)]


class ProbeJudge:
    """A language model with a head and a card."""

    def __init__(self, model: CausalLM, card: Card, head: ProbeHead) -> None:
        self.card, self.head = card, head
        self.reader = ProbeReader(model, card.layers, card.opening, card.fields, card.characters)

    @property
    def scale(self) -> RelevanceScale:
        """The scale of its labels."""
        return self.card.relevance_scale

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model, how it reads, the head, and how its score becomes labels."""
        head = hashlib.sha256(self.head.weight.tobytes() + self.head.mean.tobytes()).hexdigest()[:16]
        read = [list(self.card.layers), self.card.opening]
        odds = [self.card.slope, list(self.card.cuts)]
        precision = self.reader.model.precision
        return {"model": self.card.fingerprint, "precision": precision, "reads": read, "head": head, "odds": odds}

    def reads(self, items: Sequence[Item]) -> list[str]:
        """The card's fields of each item, cut."""
        return self.reader.reads(items)

    def features(self, pairs: Sequence[Pair]) -> np.ndarray:
        """What the head reads of each pair, (N, D) float64; a row of NaN for one that is too long."""
        usable = self.reader.fits(pairs)
        rows = np.full((len(pairs), self.reader.dimension), np.nan)
        if usable.any():
            rows[usable] = self.reader.features([pair for pair, good in zip(pairs, usable, strict=True) if good])
        return rows

    def scores(self, pairs: Sequence[Pair]) -> np.ndarray:
        """The head's score of each pair, (N,): a guess at its gain, of the largest; NaN for one that is too long."""
        return self.head.scores(self.features(pairs))

    def assess(self, pairs: Sequence[Pair]) -> Assessment:
        """Labels by the score."""
        return Assessment.of(label_probabilities(self.scores(pairs), self.card.slope, self.card.cuts))

    def explain(self, pairs: Sequence[Pair], labels: Sequence[int]) -> list[Explanation]:
        """The score, and the query's words that the item has and lacks. A linear head has no reason to give."""
        texts = self.reads([pair.item for pair in pairs])
        rows = zip(pairs, texts, self.scores(pairs).tolist(), strict=True)
        return [_explanation(pair.query, text, score) for pair, text, score in rows]


def _explanation(query: str, item_text: str, score: float) -> Explanation:
    step = ReasonStep("probe", "What the language model saw", f"probe {score:.3f}", f"{score:.2f} of 1")
    return explained([step], query, item_text)
