"""Scoring of tokens against the network's own logits, and the sources that feed it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, Qwen3Config, Qwen3ForCausalLM

from goodrate.learning.document_stream import DocumentSource
from goodrate.learning.fit import accumulate
from goodrate.learning.token_examples import TokenExample, TokenExampleSource, TokenScorer, collate, token_update

torch.set_num_threads(1)


def qwen() -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=30, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, initializer_range=0.3,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).eval()


def bert() -> BertLMHeadModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        is_decoder=True, initializer_range=0.3,
    )  # fmt: skip
    return BertLMHeadModel(config).eval()


EXAMPLES = [
    TokenExample((5, 6, 7, 8, 9), (0, 0, 1, 1, 1)),
    TokenExample((9, 3, 4), (1, 1, 0.5)),
    TokenExample((1, 2, 3, 4, 5, 6, 7), (0, 0, 0, 0, 0, 0, 2)),
]


@pytest.mark.parametrize("make", [qwen, bert])
def test_scores_are_the_networks_own(make: object) -> None:
    network = make()
    batch = collate(EXAMPLES)
    scores = TokenScorer(network)(batch)["logprobs"]
    for row, example in enumerate(EXAMPLES):
        ids = torch.tensor([example.token_ids])
        full = torch.log_softmax(network(ids).logits[0].float(), -1)  # alone, unpadded
        for place in range(1, len(example.token_ids)):
            wanted = full[place - 1, example.token_ids[place]].item() if example.weights[place] else 0.0
            assert scores[row, place].item() == pytest.approx(wanted, abs=2e-5)
    assert not scores[~batch["mask"]].any()


def test_the_first_token_is_never_predicted_and_padding_never_counts() -> None:
    batch = collate(EXAMPLES)
    assert not batch["mask"][:, 0].any() and batch["mask"].sum(1).tolist() == [3, 2, 1]


@pytest.mark.parametrize("max_tokens", [1, 10, 1000])
def test_micro_batches_change_neither_loss_nor_gradient(max_tokens: int) -> None:
    def gradients(limit: int) -> tuple[float, list[torch.Tensor]]:
        model = TokenScorer(qwen())
        loss = accumulate(model, token_update(EXAMPLES, limit), lambda x: x.backward())["loss"]
        return loss, [p.grad for p in model.parameters()]

    loss, found = gradients(max_tokens)
    whole, expected = gradients(1000)
    assert loss == pytest.approx(whole)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


def test_weights_scale_the_loss_and_the_denominator_counts_tokens() -> None:
    model = TokenScorer(qwen())
    once = TokenExample((5, 6, 7), (0, 1, 1))
    twice = TokenExample((5, 6, 7), (0, 2, 2))
    losses = [accumulate(model, token_update([e], 99), lambda x: None)["loss"] for e in (once, twice)]
    assert losses[1] == pytest.approx(2 * losses[0])


def test_what_an_example_refuses() -> None:
    with pytest.raises(ValueError, match="3 tokens, 2 weights"):
        TokenExample((1, 2, 3), (1.0, 1.0))
    with pytest.raises(ValueError, match="at least 2"):
        TokenExample((1,), (1.0,))


def test_the_list_source_refuses_other_data() -> None:
    source = TokenExampleSource(EXAMPLES, batch_size=2, max_tokens=99, seed=0, epochs=1)
    assert source.batches_per_epoch == 2 and source.next(2) is None
    other = TokenExampleSource(EXAMPLES[:2], batch_size=2, max_tokens=99, seed=0)
    with pytest.raises(ValueError, match="other training data: sha256 differ"):
        other.load_state_dict(source.state_dict())


def stream(start: int, end: int | None = None) -> Iterator[TokenExample]:
    """Document n is the token n + 1 repeated 2 to 5 times."""
    numbers = itertools.count(start) if end is None else range(start, end)
    return (TokenExample((n + 1,) * (2 + n % 4), (1.0,) * (2 + n % 4)) for n in numbers)


def first_tokens(source: DocumentSource, updates: int) -> list[int]:
    found = []
    for step in range(updates):
        update = source.next(step)
        found += [int(row[0]) for batch in update.micro_batches for row in batch["input_ids"]] if update else []
    return found


def test_the_stream_gives_every_document_once_and_resumes_in_the_middle() -> None:
    source = DocumentSource(stream, batch_size=3, max_tokens=99, seed=0, pool=2)
    assert sorted(first_tokens(source, 4)) == list(range(1, 13))
    assert sorted(first_tokens(source, 1) + first_tokens(source, 1)) == list(range(13, 19))
    for done in range(5):
        going = DocumentSource(stream, batch_size=3, max_tokens=99, seed=0, pool=2)
        first_tokens(going, done)
        again = DocumentSource(stream, batch_size=3, max_tokens=99, seed=0, pool=2)
        again.load_state_dict(going.state_dict())
        assert first_tokens(again, 5) == first_tokens(going, 5)


def test_a_stream_that_ends() -> None:
    source = DocumentSource(lambda start: stream(start, 5), batch_size=3, max_tokens=99, seed=0, pool=1)
    assert sorted(first_tokens(source, 4)) == [1, 2, 3, 4, 5] and source.next(9) is None
