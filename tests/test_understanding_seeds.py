"""Experts, seeds by consistency, the taught expert, the tagger's network and its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

from goodrate.models.causal_lm import CausalLM
from goodrate.recipes.span_tagger import TERM, SpanSource, TaggerSettings, hard_enough, training_labels
from goodrate.understanding.candidates import Spans, find_spans, phrase_texts, phrases_of
from goodrate.understanding.entity_types import EntityTypes
from goodrate.understanding.expert import CausalExpert, Cloze, MaskedExpert, open_expert
from goodrate.understanding.labels import NOTHING
from goodrate.understanding.rules import Rule
from goodrate.understanding.seeds import (
    Asked,
    LabelWords,
    SeedSettings,
    ask,
    class_probabilities,
    cloze,
    consistent_seeds,
    label_words,
    taught_seeds,
)
from goodrate.understanding.tagger import Tagger, TaggerCard, new_network, span_batch, span_probabilities, word_features
from goodrate.understanding.words import split_words
from tiny_models import causal_lm, network, tokenizer

TYPES = EntityTypes.model_validate(
    {"types": {"color": {"words": ["color", "shade"]}, "thing": {"words": ["lamp"]}}, "none": ["number"]}
)
TOLD = LabelWords(("color", "shade", "lamp", "number"), (1, 2, 3, 4), np.array([0, 0, 1, 2]), ())


class SaidExpert:
    """Says what a table tells of a phrase, in any template or in one alone."""

    identity = "said"

    def __init__(self, said: dict[str, int], second: dict[str, int] | None = None) -> None:
        self.said, self.second, self.asked = said, second if second is not None else said, 0

    def token_of(self, word: str) -> int | None:
        return None if word == "shade" else sum(map(ord, word))

    def logits(self, clozes: Sequence[Cloze], tokens: Sequence[int]) -> np.ndarray:
        self.asked += len(clozes)
        found = np.zeros((len(clozes), len(tokens)), dtype=np.float32)
        for row, blank in enumerate(clozes):
            phrase = blank.before.removesuffix(" is a type of ").removesuffix(" is a ").strip()
            known = self.said if blank.shared else self.second
            if phrase in known:
                found[row, known[phrase]] = 5.0
        return found

    def vectors(self, phrases: Sequence[str]) -> np.ndarray:
        return np.ones((len(phrases), 2), dtype=np.float32)


def asked_of(
    expert: SaidExpert, texts: list[str], settings: SeedSettings
) -> tuple[Asked, LabelWords, Spans, list[str]]:
    words = split_words(texts)
    spans = find_spans(words)
    told = label_words(TYPES, expert, "types.toml")
    every = np.arange(len(spans.count))
    found = ask(expert, TYPES, words, spans, every, told, settings, np.random.default_rng(0))
    return found, told, spans, phrase_texts(words, spans, every)


def test_a_phrase_on_which_the_templates_disagree_is_no_seed() -> None:
    # label words that are left after "shade": color 0, lamp 1, number 2
    expert = SaidExpert({"red": 0, "desk": 1, "odd": 0, "six": 2}, {"red": 0, "desk": 1, "odd": 1, "six": 2})
    asked, told, spans, names = asked_of(expert, ["red", "desk", "odd", "six"] * 3, SeedSettings())
    assert told.left_out == ("shade",)
    seeds, nothing = consistent_seeds(asked, told, spans.count, SeedSettings())
    assert {names[p]: c for p, c in seeds.items()} == {"red": 0, "desk": 1}
    assert [names[p] for p in nothing] == ["six"]
    loose, _ = consistent_seeds(asked, told, spans.count, SeedSettings(consistent=False))
    assert {names[p] for p in loose} == {"red", "desk", "odd"}


def test_a_phrase_is_asked_about_once_without_its_text() -> None:
    expert = SaidExpert({"red": 0})
    asked_of(expert, ["red"] * 4, SeedSettings(mentions=3))
    # the four texts are the same, so are their clozes: one with the text, one without, and two of the calibration
    assert expert.asked == 4


def test_seeds_are_ranked_and_few() -> None:
    logits = np.zeros((3, 2, 4), dtype=np.float32)
    logits[:, :, :2] = [[[4.0]], [[4.0]], [[1.0]]]
    asked = Asked(np.array([0, 1, 2]), np.array([0, 1, 2]), logits)
    seeds, _ = consistent_seeds(asked, TOLD, np.array([4, 64, 64]), SeedSettings(most=2))
    # e^4 / (e^4 + 2) = 0.96 times log2 64 = 6 beats times log2 4 = 2; e / (e + 2) = 0.58 * 6 = 3.5 beats 0.96 * 2
    assert list(seeds) == [1, 2]
    assert class_probabilities(logits[2, 0], TOLD.classes)[0] == pytest.approx(np.e / (np.e + 2))
    assert list(consistent_seeds(asked, TOLD, np.array([4, 64, 64]), SeedSettings(probability=0.9))[0]) == [1, 0]


def test_mentions_must_agree() -> None:
    logits = np.zeros((5, 2, 4), dtype=np.float32)
    logits[:, :, :2] = 6.0
    logits[4, 0] = [0, 0, 6, 0]  # of one mention in five the first template says another type
    asked = Asked(np.zeros(5, dtype=np.int64), np.arange(5), logits)
    assert consistent_seeds(asked, TOLD, np.array([5]), SeedSettings(agreement=0.8))[0] == {0: 0}
    assert consistent_seeds(asked, TOLD, np.array([5]), SeedSettings(agreement=0.9))[0] == {}


def test_the_taught_expert_names_phrases_that_it_did_not_see() -> None:
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2], 20)
    logits = rng.normal(0, 0.3, (60, 2, 4)).astype(np.float32)
    logits[np.arange(60), :, np.array([0, 2, 3])[kinds]] += 6.0
    label = np.where(kinds == 2, NOTHING, kinds)
    label[[5, 25]] = NOTHING  # two phrases that are not in the pool
    asked = Asked(np.arange(60), np.arange(60), logits)
    found = taught_seeds(asked, TOLD, label, np.arange(40, 60), np.full(60, 8), seed=0)
    assert found[5] == 0 and found[25] == 1 and not set(found) & set(range(40, 60))
    assert taught_seeds(asked, TOLD, np.full(60, NOTHING), np.arange(0), np.full(60, 8), seed=0) == {}


def test_an_expert_without_a_word_for_a_type_is_told() -> None:
    types = EntityTypes.model_validate({"types": {"color": {"words": ["shade"]}}, "none": ["number"]})
    with pytest.raises(ValueError, match=r"types.toml: type 'color': .* one token \(shade\)"):
        label_words(types, SaidExpert({}), "types.toml")


def test_a_causal_expert_gives_the_log_probabilities_of_its_model() -> None:
    model = causal_lm("qwen3")
    expert = CausalExpert(model, "tiny")
    token = expert.token_of("lamp")
    assert token is not None and model.tokenizer.decode([token]) == " lamp" and expert.token_of("zebra") is None
    blanks = [
        cloze("{text} In it, {phrase} is a {word}.", "red lamp", "red"),
        cloze("{phrase} is a {word}.", "", "red"),
    ]
    found = expert.logits(blanks, [token, 5])
    for row, text in enumerate(["red lamp In it, red is a", "red is a"]):
        seam = "red lamp In it," if row == 0 else ""
        ids = model.encode(seam) + model.encode(text[len(seam) :])
        expected = model.network(input_ids=torch.tensor([ids])).logits[0, -1, [token, 5]]
        assert found[row] == pytest.approx(expected.detach().numpy(), abs=1e-4)
    table = model.network.get_input_embeddings().weight
    assert expert.vectors(["red lamp"])[0] == pytest.approx(table[model.encode(" red lamp")].mean(0).detach().numpy())


def test_a_masked_expert_reads_both_sides_of_the_blank(tmp_path: Path) -> None:
    words = tokenizer()
    words.add_special_tokens({"mask_token": "<mask>"})
    torch.manual_seed(0)
    sizes = {"vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
             "num_attention_heads": 4, "max_position_embeddings": 64, "initializer_range": 0.1}  # fmt: skip
    masked = BertForMaskedLM(BertConfig(**sizes)).eval()
    expert = MaskedExpert(masked, words, "tiny")
    blanks = [Cloze("", "red is a ", " ."), Cloze("", "red is a ", " lamp .")]
    found = expert.logits(blanks, [5, 6])
    ids = words("red is a <mask> .", return_tensors="pt")["input_ids"]
    place = int((ids[0] == words.mask_token_id).nonzero()[0, 0])
    assert found[0] == pytest.approx(masked(input_ids=ids).logits[0, place, [5, 6]].detach().numpy(), abs=1e-4)
    assert np.abs(found[0] - found[1]).max() > 1e-4  # what stands behind the blank counts
    masked.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    assert isinstance(open_expert(tmp_path), MaskedExpert)


def test_a_model_without_a_language_head_is_no_expert(tmp_path: Path) -> None:
    words = tokenizer()
    BertModel(BertConfig(vocab_size=len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=1,
                         num_attention_heads=4)).save_pretrained(tmp_path)  # fmt: skip
    words.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="BertModel, which has no language-model head"):
        open_expert(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no config.json"):
        open_expert(tmp_path / "none")


def test_a_causal_folder_is_a_causal_expert(tmp_path: Path) -> None:
    words = tokenizer()
    CausalLM(network("qwen3", len(words)), words).save(tmp_path)
    assert isinstance(open_expert(tmp_path), CausalExpert)


def test_a_span_is_the_same_whatever_is_read_beside_it() -> None:
    words = split_words(["red oak lamp", "blue", "a very long title of a green glass desk lamp for rooms"])
    spans = find_spans(words)
    torch.manual_seed(0)
    net = new_network(TaggerCard(("color", "material"))).eval()
    features = word_features(words)

    def logits(texts: list[int]) -> dict[int, np.ndarray]:
        rows = np.concatenate([np.flatnonzero(spans.text == t) for t in texts])
        with torch.inference_mode():
            out = net(span_batch(words, spans, features, np.array(texts), rows))["logits"].numpy()
        return dict(zip(rows.tolist(), out, strict=True))

    together, turned, alone = logits([0, 1, 2]), logits([2, 0, 1]), logits([0])
    for row, own in alone.items():
        assert together[row] == pytest.approx(own, abs=1e-6) and turned[row] == pytest.approx(own, abs=1e-6)
    p = span_probabilities(net, words, spans)
    assert p.sum(axis=1) == pytest.approx(np.ones(len(spans)))
    assert np.log(p[0]) - np.log(p[0]).max() == pytest.approx(alone[0] - alone[0].max(), abs=1e-5)


def test_the_hardest_negatives_of_each_text_count() -> None:
    values = torch.tensor([0.1, 0.9, 0.5, 9.0, 0.2, 0.3])
    negative = torch.tensor([True, True, True, False, True, True])
    row = torch.tensor([0, 0, 0, 0, 1, 1])
    most = torch.tensor([2, 2, 2, 2, 1, 1])
    # text 0 keeps 0.9 and 0.5, text 1 keeps 0.3; the positive stays whatever its loss
    assert hard_enough(values, negative, row, most).tolist() == [False, True, True, True, False, True]


def test_soft_labels_are_the_loss() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
    batch = {"soft": torch.tensor([[0.5, 0.0], [0.0, 1.0]]), "negative": torch.tensor([False, True]),
             "row": torch.tensor([0, 0]), "most": torch.tensor([1])}  # fmt: skip
    # -(0.5 log 0.5) and -(1 log 0.5)
    values = TERM.loss({"logits": logits}, batch)
    assert values.tolist() == pytest.approx([0.5 * np.log(2), np.log(2)])


def test_negatives_are_drawn_among_the_unlabelled() -> None:
    words = split_words(["red", "blue", "six", "ten"] * 5)
    spans = find_spans(words)
    known = phrases_of(words, spans, ["red", "six"])
    label = np.where(spans.phrase == known["red"], 0, NOTHING)
    none = np.arange(len(spans.count)) == known["six"]
    free = np.ones(len(spans), dtype=bool)
    soft, used, share = training_labels(spans, label, 1, 2, np.random.default_rng(0), none, free)
    drawn = used & (label == NOTHING)
    # five that the expert calls no entity, as many as are labelled, and two of the ten others
    assert (drawn & none[spans.phrase]).sum() == 5 and (drawn & ~none[spans.phrase]).sum() == 2 and share == 0.2
    hidden = spans.text > 3  # the first four texts are left
    assert not training_labels(spans, label, 1, 99, np.random.default_rng(0), none, ~hidden)[1][hidden].any()
    assert (soft[drawn] == [0, 1]).all() and (soft[~used] == 0).all()
    with pytest.raises(ValueError, match="no phrase is labelled"):
        SpanSource(words, spans, soft, np.zeros(len(spans), bool), TaggerSettings(), 0)


def test_a_tagger_comes_back_from_its_folder(tmp_path: Path) -> None:
    torch.manual_seed(1)
    rule = Rule(1, 2**63 + 5, 0, 'before "of"', 4, 4, "1.1")
    card = TaggerCard(("color",), ("von",), seeds={"red": "color"}, rules=(rule,))
    tagger = Tagger(card, new_network(card).eval())
    tagger.save(tmp_path / "tagger")
    back = Tagger.load(tmp_path / "tagger")
    words = split_words(["red lamp"])
    spans = find_spans(words)
    assert back.card == card and (back.probabilities(words, spans) == tagger.probabilities(words, spans)).all()
    (tagger_file := tmp_path / "tagger" / "tagger.json").write_text('{"format": 9}', encoding="utf-8")
    with pytest.raises(ValueError, match=f"{tagger_file}: not a tagger of format 2"):
        Tagger.load(tmp_path / "tagger")
    with pytest.raises(FileNotFoundError, match=r"no tagger.json"):
        Tagger.load(tmp_path)
