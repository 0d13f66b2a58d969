"""Mean states of middle layers: equal to the network's own, whatever is shared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from goodrate.models.causal_lm import CausalLM
from goodrate.models.layer_states import LayerStates, decoder_blocks
from tiny_models import causal_lm, network, sentencepiece_tokenizer

TEXTS = [("red lamp", " | lamp"), ("a blue desk of oak", " | desk"), ("red lamp", " | red desk lamp"), ("x", " | y")]


@pytest.fixture(scope="module")
def nano() -> CausalLM:
    return CausalLM.load("nano", precision="fp32")


def reference(model: CausalLM, opening: str, text: tuple[str, str], layers: list[int]) -> np.ndarray:
    """One text alone through the network, from its own hidden states."""
    first, second = model.encode(opening) + model.encode(text[0]), model.encode(text[1])
    with torch.no_grad():
        states = model.network.base_model(torch.tensor([first + second]), output_hidden_states=True).hidden_states
    return np.concatenate([states[layer][0, len(first) :].mean(dim=0).numpy() for layer in layers])


@pytest.mark.parametrize("opening", ["shop log: ", ""])
def test_means_are_those_of_the_networks_own_states(nano: CausalLM, opening: str) -> None:
    found = LayerStates(nano, opening, [2, 1])(TEXTS)
    expected = np.stack([reference(nano, opening, text, [1, 2]) for text in TEXTS])
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert found.dtype == np.float32


def test_a_first_part_that_comes_often_is_shared_and_changes_nothing(nano: CausalLM) -> None:
    texts = [("red lamp of brass", f" | {word}") for word in ("lamp", "desk lamp", "brass", "table")] + TEXTS
    found = LayerStates(nano, "shop log: ", [1])(texts)
    np.testing.assert_allclose(found, np.stack([reference(nano, "shop log: ", t, [1]) for t in texts]), atol=2e-5)


@pytest.mark.parametrize("opening", ["shop log: ", ""])
def test_the_likelihood_is_that_of_the_networks_own_logits(nano: CausalLM, opening: str) -> None:
    """Alone, and behind a first part that several texts share."""
    texts = [("red lamp of brass", f" | {word}") for word in ("lamp", "desk lamp", "brass", "table")] + TEXTS
    found = LayerStates(nano, opening, [1], likelihood=True)(texts)
    np.testing.assert_allclose(found[:, :-1], LayerStates(nano, opening, [1])(texts), atol=2e-5)
    for row, (first, second) in zip(found, texts, strict=True):
        before, after = nano.encode(opening) + nano.encode(first), nano.encode(second)
        with torch.no_grad():
            logits = nano.network(torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
        own = torch.log_softmax(logits, dim=-1)[torch.arange(len(after)), after].mean()
        assert row[-1] == pytest.approx(float(own), abs=2e-5)
    with pytest.raises(ValueError, match="no likelihood: nothing stands before"):
        LayerStates(nano, opening, [1], likelihood=True)([("", "lamp")])


def test_a_models_own_start_token_stands_before_everything() -> None:
    """Gemma's states without <bos> are of another kind: its first token takes what attention has left over."""
    tokenizer = sentencepiece_tokenizer()
    model = CausalLM(network("gemma3", len(tokenizer)), tokenizer, "fp32")
    assert model.start_ids == [tokenizer.bos_token_id] and causal_lm().start_ids == []
    text = ("red lamp", " | lamp")
    ids = [*model.start_ids, *model.encode("log: "), *model.encode(text[0])], model.encode(text[1])
    with torch.no_grad():
        states = model.network.base_model(torch.tensor([ids[0] + ids[1]]), output_hidden_states=True).hidden_states
    found = LayerStates(model, "log: ", [1])([text])
    np.testing.assert_allclose(found[0], states[1][0, len(ids[0]) :].mean(dim=0).numpy(), atol=2e-5)


def test_the_forward_ends_behind_the_deepest_layer(nano: CausalLM) -> None:
    blocks, ran = decoder_blocks(nano.network), []
    handles = [b.register_forward_hook(lambda m, i, o, n=n: ran.append(n)) for n, b in enumerate(blocks, 1)]
    reader = LayerStates(nano, "", [1])
    reader(TEXTS)
    for handle in handles:
        handle.remove()
    assert set(ran) == {1} and len(blocks) > 1


def test_what_cannot_be_read_is_said(nano: CausalLM) -> None:
    with pytest.raises(ValueError, match=r"layers \[99\]: expected numbers from 1 to"):
        LayerStates(nano, "", [99])
    with pytest.raises(ValueError, match="the second part of 'lamp' has no token"):
        LayerStates(nano, "", [1])([("lamp", "")])
    with pytest.raises(ValueError, match=r"a text has \d+ tokens, the model takes"):
        LayerStates(nano, "", [1])([("lamp " * 5000, "x")])
