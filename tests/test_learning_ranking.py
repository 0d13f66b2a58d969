"""Retrieval-GRPO's parts: rivals by hand, the derived gradient identity, candidates, rewards, and exact resume."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from goodrate.learning.advantages import group_relative
from goodrate.learning.contrastive import TwoTower
from goodrate.learning.fit import FitSettings, fit
from goodrate.learning.item_matrix import ItemMatrix, top_k
from goodrate.learning.losses import lambda_loss, listwise, policy_gradient, ranknet
from goodrate.learning.ranking_source import (
    QueryExample,
    RankingSettings,
    RankingSource,
    _Clock,
    ranking_logprobs,
    spread_enough,
)
from goodrate.learning.ranking_terms import RankingTermSettings, best_and_hardest, ranking_terms
from goodrate.learning.records import Ranking, Reward
from goodrate.models.encoder import Encoder
from goodrate.recipes import retriever_grpo
from goodrate.recipes.retriever_rewards import JudgedRelevance, LexicalOverlap, RetrievalGrades
from goodrate.relevance.function_judge import FunctionJudge
from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.pairs import text_item
from goodrate.run_folder import RunFolder
from goodrate.scale import FOUR_LEVEL
from tiny_models import tokenizer_file

WORDS = ["red", "blue", "green", "lamp", "chair", "tent", "steel", "wool"]
ITEMS = [f"{a} {b} {c}" for a in WORDS[:3] for b in WORDS[3:6] for c in WORDS[6:]]  # 18
QUERIES = [
    QueryExample(f"{a} {b}", ITEMS.index(f"{a} {b} steel"), frozenset(ITEMS.index(f"{a} {b} {c}") for c in WORDS[6:]))
    for a in WORDS[:3]
    for b in WORDS[3:6]
]
MASK = torch.ones(1, 3, dtype=torch.bool)
CREDIT = retriever_grpo.Settings(encoder="start")


def encoder(folder: Path) -> Encoder:
    return Encoder.create(tokenizer_file(folder), hidden=16, layers=1, heads=2, seed=3)


def relevance(rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Share of the query's words that the item has."""
    words = [set(QUERIES[row].text.split()) for row in rows]
    return np.asarray([len(w & set(ITEMS[item].split())) / len(w) for w, item in zip(words, items, strict=True)])


def make_source(start: Encoder, **changes: Any) -> RankingSource:
    settings = RankingSettings(**{"queries": 4, "candidates": 5, "refresh_items": 7, "random_items": 3, **changes})
    terms = ranking_terms(RankingTermSettings(), settings.temperature, settings.inner_steps == 1)
    return RankingSource(
        settings, start, QUERIES, ITEMS, RetrievalGrades(relevance),
        lambda ranking, reward: retriever_grpo.credited(ranking, reward, CREDIT), terms, seed=1, reference=start,
    )  # fmt: skip


def test_ranknet_and_lambda_loss_by_hand() -> None:
    scores, rewards = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    # pairs with a larger reward: (0, 1) with margin 1, (0, 2) with margin -1
    values = [math.log1p(math.exp(-1)), math.log1p(math.exp(1))]
    assert float(ranknet(scores, rewards, MASK)) == pytest.approx(sum(values) / 2)
    # ranks 2, 3, 1; the ideal DCG is 1; swapping 0 with 1 changes 1/log2(3) - 1/log2(4), with 2: 1 - 1/log2(3)
    weights = [1 / math.log2(3) - 1 / 2, 1 - 1 / math.log2(3)]
    expected = sum(w * v for w, v in zip(weights, values, strict=True))
    assert float(lambda_loss(scores, rewards, MASK)) == pytest.approx(expected)
    without = torch.tensor([[True, True, False]])
    assert float(ranknet(scores, rewards, without)) == pytest.approx(values[0])
    assert float(ranknet(scores, torch.ones(1, 3), MASK)) == float(lambda_loss(scores, torch.ones(1, 3), MASK)) == 0


@pytest.mark.parametrize("over", ["K", "B", "unnormalised"])
def test_on_policy_the_gradient_is_an_advantage_weighted_push_whatever_the_softmax_runs_over(over: str) -> None:
    torch.manual_seed(0)
    scores = torch.randn(1, 9, dtype=torch.float64, requires_grad=True)  # B = 9 items, the first K = 4 are candidates
    rewards = torch.tensor([0.99, 0.99, 0.44, 0.29], dtype=torch.float64)
    advantages = group_relative(rewards, torch.zeros(4), scale="population")
    assert advantages.tolist() == pytest.approx([0.986, 0.986, -0.749, -1.223], abs=1e-3)  # the paper's example
    t = 0.05
    logprobs = {
        "K": torch.log_softmax(scores[:, :4] / t, 1),
        "B": torch.log_softmax(scores / t, 1)[:, :4],
        "unnormalised": scores[:, :4] / t,
    }[over]
    loss = policy_gradient(logprobs, logprobs.detach(), advantages[None], clip_low=0.2, clip_high=0.2).mean()
    (gradient,) = torch.autograd.grad(loss, scores)
    assert torch.allclose(gradient[0, :4], -advantages / (4 * t), atol=1e-12) and gradient[0, 4:].abs().max() < 1e-12


def test_the_expected_reward_pushes_by_probability_and_grpo_does_not() -> None:
    scores = torch.tensor([[0.3, 0.1, -0.2]], dtype=torch.float64, requires_grad=True)
    advantages, t = torch.tensor([[1.0, -0.5, -0.5]], dtype=torch.float64), 0.1
    batch = {"place": torch.tensor([[0, 1, 2]]), "mask": MASK, "advantages": advantages, "kept": MASK[:, 0]}
    (term,), _ = ranking_terms(RankingTermSettings(objective="expected", kl=0, anchor=0), t, True)
    (gradient,) = torch.autograd.grad(term.loss({"scores": scores}, batch).sum(), scores)
    p = torch.softmax(scores.detach() / t, 1)
    assert torch.allclose(gradient, -p * (advantages - (p * advantages).sum()) / t, atol=1e-12)


def test_listwise_distillation_at_the_start_pushes_like_its_target_minus_the_policy() -> None:
    scores = torch.tensor([[0.3, 0.1, -0.2]], requires_grad=True)
    target = torch.softmax(torch.tensor([[1.0, 0.0, 0.5]]) / 0.5, 1)
    (gradient,) = torch.autograd.grad(listwise(scores, target, MASK).sum(), scores)
    assert torch.allclose(gradient, torch.softmax(scores, 1) - target, atol=1e-6)


def test_top_k_is_brute_force_with_ties_by_position() -> None:
    rng = np.random.default_rng(0)
    queries, items = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(50, 4)).astype(np.float32)
    items[[9, 30]] = items[3]
    brute = np.argsort(-(queries @ items.T), axis=1, kind="stable")
    assert (top_k(queries, items, 7) == brute[:, :7]).all() and (top_k(queries, items, 99) == brute).all()


def test_the_matrix_is_refreshed_in_turn_and_equals_a_full_one_after_a_round(tmp_path: Path) -> None:
    model = encoder(tmp_path)
    matrix = ItemMatrix(ITEMS, model)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    fresh = model.encode_items(ITEMS)
    matrix.refresh(7, 0)
    assert not np.allclose(matrix.vectors, fresh) and matrix.age == 0  # update 0: nothing was learned yet
    for number in (1, 2):
        matrix.refresh(7, number)
    # rows 0-6 at update 1, 7-13 at update 2, 14-17 not yet: ages 1, 0 and 2
    assert matrix.age == pytest.approx((7 * 1 + 7 * 0 + 4 * 2) / 18)
    assert np.allclose(matrix.vectors[:14], fresh[:14], atol=1e-6) and not np.allclose(matrix.vectors[14:], fresh[14:])
    matrix.refresh(7, 3)
    assert np.allclose(matrix.vectors, fresh, atol=1e-6)


@pytest.mark.parametrize("pool", ["catalogue", "part", "batch", "start"])
def test_an_update_holds_the_current_top_k_and_starts_at_ratio_one_and_kl_zero(tmp_path: Path, pool: str) -> None:
    model = encoder(tmp_path)
    # The batch pool is the whole catalogue here; two steps, so that the weights that ranked are remembered.
    source = make_source(model, pool=pool, pool_size=18, inner_steps=2)
    update = source.next(0)
    assert update is not None
    (batch,) = update.micro_batches
    rows = source._order.rows(0)
    assert rows is not None
    brute = top_k(model.encode_queries([QUERIES[row].text for row in rows]), model.encode_items(ITEMS), 5)
    texts = [model.tokenizer.decode(ids, skip_special_tokens=True) for ids in batch["candidates"]["input_ids"]]
    shown = [[texts[place] for place in row] for row in batch["place"].tolist()]
    assert shown == [[ITEMS[item] for item in row] for row in brute.tolist()]
    outputs = TwoTower(model)(batch)
    logprobs = ranking_logprobs(outputs["scores"].gather(1, batch["place"]), torch.ones(4, 5, dtype=torch.bool), 0.05)
    assert torch.allclose(logprobs, batch["behaviour"], atol=1e-4)
    assert torch.allclose(batch["behaviour"], batch["reference"], atol=1e-4)
    terms = {term.name: term.loss(outputs, batch) for term in (*update.terms, *update.diagnostics)}
    assert terms["kl_loss"].abs().max() < 1e-4 and terms["clipped"].sum() == 0
    # the anchor compares with positives and random items only, and never with items known to answer
    assert (batch["allowed"].sum(1) <= 4 + 3).all()
    for row, allowed in zip(rows, batch["allowed"], strict=True):
        assert not {ITEMS.index(texts[place]) for place in allowed.nonzero()[:, 0]} & QUERIES[row].known


def test_a_batch_pool_never_encodes_the_whole_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    plain = Encoder.encode_items
    monkeypatch.setattr(Encoder, "encode_items", lambda self, texts: encoded.append(len(texts)) or plain(self, texts))
    source = make_source(encoder(tmp_path), pool="batch", pool_size=6)
    update = source.next(0)
    # the pool: 6 drawn items and 4 positives at most; the start's candidates: those that it has of them
    assert len(encoded) == 2 and max(encoded) <= 10 < len(ITEMS) and update is not None
    whole = make_source(encoder(tmp_path))._reference
    assert whole is not None and encoded[2:] == [len(ITEMS)] * 2  # the matrix and the start's vectors
    rows, candidates = [0, 3], torch.tensor([[1, 5, 5], [17, 0, 1]])
    assert source._reference is not None
    assert torch.allclose(source._reference.scores(rows, candidates), whole.scores(rows, candidates), atol=1e-6)


def test_offline_mining_never_changes_and_a_ranking_of_one_step_remembers_no_old_policy(tmp_path: Path) -> None:
    model = encoder(tmp_path)
    found = [batch for pool in ("start", "catalogue") for batch in moved(make_source, model, pool)]
    (first, later), (live, moved_on) = found[:2], found[2:]
    assert torch.equal(first, later) and torch.equal(first, live) and not torch.equal(live, moved_on)
    update = make_source(model).next(0)
    assert update is not None and "behaviour" not in update.micro_batches[0]


def moved(source_of: Any, model: Encoder, pool: str) -> list[torch.Tensor]:
    """Candidates before and after the weights changed."""
    changed = copy.deepcopy(model)
    source = source_of(changed, pool=pool, refresh_items=18)
    source._reference = source._reference and type(source._reference)(model, [q.text for q in QUERIES], ITEMS, True)
    kept = [source._candidates(range(4), 0, _Clock())]
    with torch.no_grad():
        for parameter in changed.network.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return [*kept, source._candidates(range(4), 1, _Clock())]


def test_queries_without_spread_have_no_policy_gradient_but_keep_their_anchor(tmp_path: Path) -> None:
    assert spread_enough(torch.tensor([[1.0, 1.0], [0.0, 1.0], [float("nan")] * 2]), 1e-3).tolist() == [
        False, True, False,
    ]  # fmt: skip
    model = encoder(tmp_path)
    source = make_source(model)
    source._grade = RetrievalGrades(lambda rows, items: np.full(len(rows), 0.7))
    update = source.next(0)
    assert update is not None and update.facts["share_kept"] == 0
    (batch,) = update.micro_batches
    assert not batch["mask"].any() and not batch["kept"].any() and batch["anchored"].all()


@pytest.mark.parametrize("objective", ["grpo", "expected", "listwise", "ranknet", "lambda", "dpo"])
@pytest.mark.parametrize("inner_steps", [1, 2])
def test_a_candidate_without_a_grade_is_neither_pushed_nor_pulled(
    tmp_path: Path, objective: str, inner_steps: int
) -> None:
    model = encoder(tmp_path)
    source = make_source(model, queries=1, random_items=0, inner_steps=inner_steps)
    grades, known = torch.tensor([float("nan"), 0.9, 0.2, float("nan"), 0.5]), [1, 2, 4]
    source._grade = lambda rows, candidates: Reward(grades, grades, torch.zeros(5, dtype=torch.bool))
    chosen = RankingTermSettings(objective=objective, kl=0.7, anchor=0.0)  # type: ignore[arg-type]
    source._terms = ranking_terms(chosen, 0.05, inner_steps == 1)
    update = source.next(0)
    assert update is not None and update.facts["unscored"] == pytest.approx(0.4)
    (batch,) = update.micro_batches
    shift = 0.1 * torch.arange(5.0)
    scores = (TwoTower(model)(batch)["scores"].detach() + shift.roll(2)).requires_grad_()
    values = [(term.weight * term.loss({"scores": scores}, batch))[batch[term.mask]] for term in update.terms]
    (gradient,) = torch.autograd.grad(torch.cat([value.flatten() for value in values]).sum(), scores)
    of_candidates = gradient.gather(1, batch["place"])[0]
    assert of_candidates[[0, 3]].tolist() == [0, 0] and of_candidates[known].abs().min() > 0
    # the start is a distribution over what is graded, too
    assert batch["reference"][0, known].exp().sum() == pytest.approx(1)
    if objective == "listwise":  # softmax(s / t) - softmax(r / 0.1), over t
        mine = torch.softmax(scores.detach().gather(1, batch["place"])[0, known] / 0.05, 0)
        start = batch["reference"][0, known]
        pull = mine * (mine.log() - start - (mine * (mine.log() - start)).sum())
        pushed = mine - torch.softmax(grades[known] / 0.1, 0) + 0.7 * pull
        assert torch.allclose(of_candidates[known], pushed / 0.05, atol=1e-4)


def test_the_hardest_is_the_first_that_is_worse_than_the_best() -> None:
    rewards = torch.tensor([[0.2, 0.9, 0.9, 0.1], [1.0, 1.0, 1.0, 1.0]])
    mask = torch.ones(2, 4, dtype=torch.bool)
    best, hardest = best_and_hardest(rewards, mask)
    assert best.tolist() == [1, 0] and hardest.tolist() == [0, 3]
    tied = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    assert [c.item() for c in best_and_hardest(tied, mask[:1])] == [0, 1]
    assert [c.item() for c in best_and_hardest(tied, mask[:1], "lowest")] == [2, 1]


def test_rewards_ungated_pay_for_irrelevance_and_gated_do_not() -> None:
    rows, items = np.asarray([0, 0]), torch.tensor([[0, ITEMS.index("green tent wool")]])
    overlap = LexicalOverlap([q.text for q in QUERIES], ITEMS)
    # "red lamp": the first item has both words, the other none
    assert overlap(rows, items.numpy().ravel()).tolist() == pytest.approx([0, 1])
    for gate, wins in (("none", 1), ("threshold", 0)):
        graded = RetrievalGrades(
            lambda rows, items: np.asarray([0.6, 0.0]),
            None,
            overlap,
            gate=gate,
            scale=1.0,  # type: ignore[arg-type]
        )([0], items)
        assert int(graded.outcome.argmax()) == wins
    # a third of the query's idf is a word that no item has: it is never found
    unknown = LexicalOverlap(["red zebra"], ITEMS)
    assert 0 < float(unknown(np.asarray([0]), np.asarray([0]))[0]) < 1


class CountingJudge:
    """Gives every item of odd position label 3, others label 0; fails on the text "broken"."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, query: str, items: Any) -> np.ndarray:
        self.seen += len(items)
        rows = np.eye(4)[[3 if ITEMS.index(item["text"]) % 2 else 0 for item in items]]
        return np.full_like(rows, np.nan) if query == "broken" else rows


def judged_relevance(judge: CountingJudge, queries: list[str], worth: Any = None) -> JudgedRelevance:
    calibrated = CalibratedJudge(FunctionJudge(judge, FOUR_LEVEL, "counting"))
    return JudgedRelevance(calibrated, queries, [text_item(text) for text in ITEMS], worth)


def test_a_pair_is_judged_once_and_a_failure_is_unknown() -> None:
    judge = CountingJudge()
    scores = judged_relevance(judge, ["red lamp", "broken"])
    asked = np.asarray([0, 0, 0, 1]), np.asarray([1, 2, 1, 1])
    for _ in range(2):
        values = scores(*asked)
        assert values[:3].tolist() == [1, 0, 1] and np.isnan(values[3])
    assert (judge.seen, scores.judged, scores.asked) == (3, 3, 8)
    reward = RetrievalGrades(scores)([0, 1], torch.tensor([[1], [1]]))
    assert reward.outcome[0] == 1 and reward.outcome[1].isnan()


def test_labels_are_worth_what_is_asked_for() -> None:
    scores = judged_relevance(CountingJudge(), ["red lamp"], worth=(0.25, 0, 0, 0.5))
    assert scores(np.asarray([0, 0]), np.asarray([1, 2])).tolist() == [0.5, 0.25] and scores.distinct == 2


def test_separate_losses_are_the_fused_one_with_a_sum_of_advantages() -> None:
    ranking = Ranking(torch.tensor([0]), torch.zeros(1, 4, dtype=torch.long), None, torch.tensor([0]), MASK)
    reward = RetrievalGrades(
        lambda rows, items: np.asarray([1.0, 0.0, 1.0, 0.0]), np.asarray([0.5]),
        lambda rows, items: np.asarray([0.0, 0.0, 1.0, 1.0]), gate="none", scale=0.2,
    )([0], ranking.candidates)  # fmt: skip
    # relevance z-scored: +-1; exclusivity z-scored by itself: +-1, whatever its scale; quality has no spread
    chosen = CREDIT.model_copy(update={"separate": 0.5})
    assert retriever_grpo.credited(ranking, reward, chosen)["advantages"].tolist() == [[0.5, -1.5, 1.5, -0.5]]
    fused = retriever_grpo.credited(ranking, reward, CREDIT)["advantages"]
    # 1, 0, 1.2, 0.2: mean 0.6, population deviation sqrt(0.26)
    assert fused[0].tolist() == pytest.approx([x / math.sqrt(0.26) for x in (0.4, -0.6, 0.6, -0.4)], abs=1e-5)
    failed = replace(reward, outcome=torch.tensor([float("nan"), 0.0, 1.2, 0.2]))
    assert float(retriever_grpo.credited(ranking, failed, chosen)["advantages"][0, 0]) == 0


@pytest.mark.parametrize("objective", ["grpo", "expected", "listwise", "ranknet", "lambda", "dpo"])
def test_every_objective_raises_the_reward_of_the_top(tmp_path: Path, objective: str) -> None:
    torch.set_num_threads(1)
    start = encoder(tmp_path)
    start.save(tmp_path / "start")
    seen: list[dict[str, Any]] = []
    settings = retriever_grpo.Settings(
        encoder=str(tmp_path / "start"), learning_rate=3e-3,
        rankings=RankingSettings(queries=9, candidates=6, refresh_items=18, random_items=0),
        loss=RankingTermSettings(objective=objective, kl=0.01, anchor=0.0),  # type: ignore[arg-type]
        fit=FitSettings(updates=40, precision="fp32", schedule="constant"),
    )  # fmt: skip
    folder = retriever_grpo.train(settings, QUERIES, ITEMS, RetrievalGrades(relevance), tmp_path / "run", seen.append)
    assert seen[-1]["reward"] > seen[0]["reward"] + 0.05 and seen[0].get("kl", 0.0) == pytest.approx(0, abs=1e-5)
    trained = Encoder.load(folder)
    ranked = top_k(trained.encode_queries([q.text for q in QUERIES]), trained.encode_items(ITEMS), 2)
    right = np.mean([len(QUERIES[row].known & set(items)) / 2 for row, items in enumerate(ranked.tolist())])
    before = top_k(start.encode_queries([q.text for q in QUERIES]), start.encode_items(ITEMS), 2)
    assert right > np.mean([len(QUERIES[row].known & set(items)) / 2 for row, items in enumerate(before.tolist())])


@pytest.mark.parametrize("inner_steps", [1, 2])
def test_a_killed_run_goes_on_as_it_would_have(tmp_path: Path, inner_steps: int) -> None:
    torch.set_num_threads(1)

    def weights(name: str, *stops: int) -> dict[str, torch.Tensor]:
        model = encoder(tmp_path)
        for updates in stops:
            model = encoder(tmp_path)
            source = make_source(model, inner_steps=inner_steps)
            optimizer = torch.optim.AdamW(model.network.parameters(), 1e-3)
            settings = FitSettings(updates=updates, precision="fp32", schedule="constant")
            fit(TwoTower(model), source, [optimizer], settings, folder=RunFolder(tmp_path / name))
        return model.network.state_dict()

    whole, stopped = weights("whole", 7), weights("stopped", 3, 7)
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    changed = make_source(encoder(tmp_path))
    with pytest.raises(ValueError, match="other training data: settings differ"):
        changed.load_state_dict(make_source(encoder(tmp_path), candidates=4).state_dict())


def test_what_cannot_be_ranked_is_refused(tmp_path: Path) -> None:
    model = encoder(tmp_path)
    with pytest.raises(ValueError, match="candidates = 19, but the catalogue has 18 items"):
        make_source(model, candidates=19)
    with pytest.raises(ValueError, match="ranks by the frozen start"):
        RankingSource(
            RankingSettings(candidates=4, pool="start"), model, QUERIES, ITEMS, RetrievalGrades(relevance),
            lambda ranking, reward: {}, ([], []), seed=0,
        )  # fmt: skip
    ranking = Ranking(*(torch.zeros(1, 2) for _ in range(5)))
    reward = Reward(torch.tensor([1.0, float("nan")]), torch.ones(2), torch.zeros(2, dtype=torch.bool))
    ranking = replace(ranking, candidates=torch.zeros(1, 2, dtype=torch.long), group=torch.zeros(1))
    credit = retriever_grpo.credited(ranking, reward, CREDIT)
    assert credit["advantages"].tolist() == [[0.0, 0.0]] and credit["rewards"].tolist() == [[1.0, 0.0]]
