"""The choice of the next token: the distribution that softmax gives, in blocks of the vocabulary or whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from goodrate.models import decoding
from goodrate.models.decoding import choose


@pytest.mark.parametrize("words", [7, 512, 513, 2000])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_a_draw_falls_on_the_word_where_the_cumulative_softmax_passes_it(words: int, temperature: float) -> None:
    logits = 3 * torch.randn(50, words, generator=torch.Generator().manual_seed(words))
    draws = np.random.default_rng(1).random(50)
    tokens, logprobs = choose(logits, draws, temperature)
    softmax = torch.softmax(logits.double() / temperature, -1)
    expected = [int((row.cumsum(-1) <= draw).sum()) for row, draw in zip(softmax, draws, strict=True)]
    assert tokens.tolist() == expected
    np.testing.assert_allclose(logprobs, softmax.log().numpy()[range(50), expected], atol=1e-6)


def test_the_ends_of_the_interval_fall_on_words_that_can_occur() -> None:
    logits = torch.full((2, 1500), float("-inf"))
    logits[:, [3, 700]] = 0.0
    tokens, logprobs = choose(logits, np.array([0.0, np.nextafter(1.0, 0.0)]), 1.0)
    assert tokens.tolist() == [3, 700] and logprobs == pytest.approx(np.log([0.5, 0.5]))


def test_a_row_draws_the_same_alone_and_among_others() -> None:
    logits = torch.randn(9, 3 * decoding.BLOCK + 1, generator=torch.Generator().manual_seed(0))
    draws = np.random.default_rng(2).random(9)
    together, _ = choose(logits, draws, 1.0)
    assert [int(choose(logits[i : i + 1], draws[i : i + 1], 1.0)[0][0]) for i in range(9)] == together.tolist()


def test_greedy_is_the_most_probable_word() -> None:
    logits = torch.randn(5, 1100, generator=torch.Generator().manual_seed(4))
    tokens, logprobs = choose(logits, np.zeros(5), 0.0)
    assert tokens.tolist() == logits.argmax(-1).tolist()
    np.testing.assert_allclose(logprobs, torch.log_softmax(logits.double(), -1).amax(-1).numpy(), atol=1e-6)
