"""Graded lists: the two terms by hand, what an update holds, any split of it, and where lists are drawn from."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn, tensor

from goodrate.learning.fit import accumulate
from goodrate.learning.graded_lists import (
    GradedList,
    GradedListSource,
    GradedPair,
    ListScorer,
    Shape,
    gain_scores,
    terms_of,
)
from goodrate.models.cross_encoder import CrossEncoder, PairTokens
from test_models_cross_encoder import cross_encoder

GAINS = (0.0, 1.0, 3.0, 7.0)
WORST, BEST = (1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)


def pair(word: int, length: int = 3, target: tuple[float, ...] = WORST, weight: float = 1.0) -> GradedPair:
    ids = (1, *[word] * length, 2)
    of_text = (0, *[1 + (n > 0) for n in range(length)], 0)
    return GradedPair(PairTokens(ids, of_text, (0,) * len(ids)), target, weight)


def lists() -> list[GradedList]:
    """Three queries of 3, 2 and 1 graded items; the first has silver ones."""
    silver = tuple(pair(9, n, weight=0.3) for n in (2, 4, 6, 8))
    first = (pair(4, 3, BEST), pair(5, 5), pair(6, 2, (0, 0, 1.0, 0)))
    return [GradedList(first, silver), GradedList((pair(7), pair(8, 9, BEST))), GradedList((pair(7, 1, BEST),))]


WHOLE = Shape(3, 8, 2, 10**6)


def source(model: CrossEncoder, shape: Shape = WHOLE, order: str = "pairwise", seed: int = 0) -> GradedListSource:
    return GradedListSource(lists(), terms_of(GAINS, order, 0.5), model.collate, shape, seed=seed)  # type: ignore[arg-type]


def test_gain_scores_by_hand_and_in_the_order_of_expected_gain() -> None:
    # two labels: the difference of their logits
    assert gain_scores(tensor([[0.3, 1.5]]), tensor([0.0, 1.0])).tolist() == pytest.approx([1.2])
    # p = 1/2, 1/4, 1/4 with gains 0, 1/2, 1: e = 3/8, log(3/5)
    logits = tensor([0.5, 0.25, 0.25]).log()
    assert float(gain_scores(logits, tensor([0.0, 0.5, 1.0]))) == pytest.approx(math.log(3 / 5))
    drawn = torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    share = tensor([gain / 7 for gain in GAINS], dtype=torch.float64)
    e = drawn.softmax(-1) @ share
    torch.testing.assert_close(gain_scores(drawn, share), torch.logit(e))
    far = tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True)
    gain_scores(far, tensor([0.0, 1.0])).sum().backward()
    assert far.grad is not None and far.grad.tolist() == [[-1.0, 1.0]] * 2  # no flat end


def test_the_terms_by_hand() -> None:
    labels, order = terms_of((0.0, 1.0), "pairwise", 0.5)
    logits = tensor([[[0.0, 2.0], [0.0, 1.0], [0.0, 0.0]]])  # scores 2, 1 and a silver item
    batch = {
        "target": tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]]), "weights": tensor([[1.0, 1.0, 0.3]]),
        "graded": tensor([[True, True, False]]),
    }  # fmt: skip
    p = logits.log_softmax(-1)[0]
    expected = [-float(p[0, 0]), -float(p[1, 1]), 0.3 * math.log(2)]
    assert labels.loss({"logits": logits}, batch)[0].tolist() == pytest.approx(expected)
    # one ordered pair, the second before the first: log(1 + exp(2 - 1)); the silver item is in no pair
    assert order.loss({"logits": logits}, batch).tolist() == pytest.approx([math.log(1 + math.e)])
    assert (order.weight, order.unit) == (0.5, "group")
    assert [term.name for term in terms_of(GAINS, "none", 1.0)] == ["labels"]


def test_an_update_holds_the_lists_and_its_padding_counts_for_nothing(tmp_path: Path) -> None:
    model = cross_encoder(tmp_path)
    update = source(model).next(0)
    assert update is not None
    (batch,) = update.micro_batches
    counts = sorted(batch["mask"].sum(1).tolist())
    assert counts == [1, 2, 5]  # the first has 3 graded items and 2 of its 4 silver ones
    assert sorted(batch["graded"].sum(1).tolist()) == [1, 2, 3] and sorted(batch["lists"].tolist()) == [0, 1, 1]
    assert batch["pairs"]["input_ids"].shape == (8, int(batch["pairs"]["attention_mask"].sum(1).max()))
    logits = ListScorer(model)(batch)["logits"]
    rows = {tuple(row[row != 0].tolist()): place for place, row in enumerate(batch["pairs"]["input_ids"])}
    alone = model.numbers([pair(8, 9).tokens])[0]
    cell = int(batch["cell"][rows[(1, *[8] * 9, 2)]])
    torch.testing.assert_close(logits.flatten(0, 1)[cell].double(), torch.from_numpy(alone), atol=1e-5, rtol=0)
    assert logits[~batch["mask"]].eq(0).all()


@pytest.mark.parametrize("order", ["pairwise", "lambda", "none"])
def test_a_split_of_an_update_changes_neither_values_nor_gradients(order: str, tmp_path: Path) -> None:
    model = cross_encoder(tmp_path)
    found = []
    for most in (10**6, 40, 1):
        update = source(model, Shape(3, 8, 2, most), order).next(0)
        assert update is not None
        scorer: nn.Module = ListScorer(model)
        model.zero_grad()
        values = accumulate(scorer, update, torch.Tensor.backward)
        found.append((len(update.micro_batches), values, model.head.weight.grad))
    assert [count for count, _, _ in found] == [1, 2, 3] or found[2][0] == 3
    for _, values, gradient in found[1:]:
        assert values == pytest.approx(found[0][1], abs=1e-5)
        torch.testing.assert_close(gradient, found[0][2], atol=1e-5, rtol=1e-4)


def test_what_stands_for_a_query_follows_from_the_update_and_a_checkpoint_of_other_data_is_refused(
    tmp_path: Path,
) -> None:
    model = cross_encoder(tmp_path)
    shape = Shape(3, 2, 1, 10**6)
    first, again, other = source(model, shape), source(model, shape), source(model, shape, seed=1)
    updates = [[one.next(step) for step in range(6)] for one in (first, again, other)]
    ids = [[u.micro_batches[0]["pairs"]["input_ids"].tolist() for u in row if u is not None] for row in updates]
    assert ids[0] == ids[1] != ids[2] and len({str(one) for one in ids[0]}) > 1
    first.load_state_dict(again.state_dict())
    with pytest.raises(ValueError, match="other training data: seed differ"):
        first.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="other training data: drawn differ"):
        first.load_state_dict(source(model, Shape(3, 8, 1, 10**6)).state_dict())
