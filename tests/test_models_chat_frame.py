"""Prompts in a chat template: the tokens of the whole, the prefix still shared, and templates of every temper."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from goodrate.models import label_forward
from goodrate.models.causal_lm import CausalLM
from goodrate.models.chat_frame import ChatFrame, chat_frame
from goodrate.relevance.prompts import PromptFields, fitted_prompt, judge_prompt
from tiny_models import chat_template, network, sentencepiece_tokenizer

PROMPTS = [judge_prompt("red lamp", f"lamp {'red steel ' * n}", template="nano") for n in range(6)]


def chat_lm(strips: bool = True, system: bool = False) -> CausalLM:
    words = sentencepiece_tokenizer()
    words.chat_template = chat_template(strips, system)
    model = CausalLM(network("gemma3", len(words)), words, precision="fp32")
    model.frame = chat_frame(words)
    return model


@pytest.mark.parametrize(("strips", "system"), [(True, False), (False, False), (True, True)])
def test_the_parts_have_the_tokens_of_the_whole(strips: bool, system: bool) -> None:
    model = chat_lm(strips, system)
    for prefix, suffix in PROMPTS:
        message = [{"role": "user", "content": (prefix + suffix).strip()}]
        whole = model.tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
        assert model.encode_pair(prefix, suffix) == model.prompt_ids((prefix, suffix)) == whole
        assert model.tokenizer.decode(whole).endswith("answer:<end_of_turn>\n<start_of_turn>model\n")


def test_the_prefix_is_shared_inside_the_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    model = chat_lm()
    labels = [model.encode(digit)[0] for digit in "1234"]
    rows = [model.encode_pair(*prompt) for prompt in PROMPTS]
    with torch.no_grad():
        expected = [model.network(torch.tensor([row])).logits[0, -1, labels].numpy() for row in rows]
    read: list[int] = []
    prefill = label_forward.prefill
    monkeypatch.setattr(label_forward, "prefill", lambda n, p, d: (read.extend(map(len, p)), prefill(n, p, d))[1])
    np.testing.assert_allclose(model.label_logits(PROMPTS, labels), np.stack(expected), atol=1e-5)
    opening = len(model.tokenizer.encode(model.frame.opening + PROMPTS[0][0], add_special_tokens=False))
    assert read[-1] == opening > len(model.encode(PROMPTS[0][0]))
    assert model.generate(PROMPTS[:1], 3, None)[0].token_ids == model.generate([rows[0]], 3, None)[0].token_ids


def test_a_long_item_is_cut_with_room_for_the_frame() -> None:
    model, plain = chat_lm(), chat_lm()
    plain.frame = ChatFrame()
    fields = PromptFields("red lamp", "lamp " * 60)
    framed, bare = (fitted_prompt(lm, fields, "nano", room=60)[0] for lm in (model, plain))
    assert len(model.encode_pair(*framed)) <= 60 and len(framed[1]) < len(bare[1])
    prompt, cut = fitted_prompt(model, PromptFields("red", "lamp"), "nano", room=41)
    # 39 bytes and 2 fit, but not with the frame around them
    assert len("".join(judge_prompt("red", "lamp", template="nano"))) <= 39
    assert len(model.encode_pair(*prompt)) <= 41 or not cut


def test_templates_that_hold_no_message_are_refused_with_the_way_out() -> None:
    words = sentencepiece_tokenizer()
    with pytest.raises(ValueError, match=r"base has no chat template; set format\.chat"):
        chat_frame(words, "base")
    for template, told in (
        ("{{ raise_exception('tools are needed') }}", "tools are needed"),
        ("{% for m in messages %}{{ m['content'] | upper }}{% endfor %}", "does not hold a message once"),
        ("{% for m in messages %}{{ m['content'] + m['content'] }}{% endfor %}", "does not hold a message once"),
    ):
        words.chat_template = template
        with pytest.raises(ValueError, match=told):
            chat_frame(words, "base")
