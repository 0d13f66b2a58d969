"""An LM judge's folder as training reads and writes it: the policy to go on from, and the trained judge."""

from __future__ import annotations

import json
from pathlib import Path

from goodrate.models.adapter import Adapter
from goodrate.models.causal_lm import CausalLM
from goodrate.models.chat_frame import chat_frame
from goodrate.relevance.judge_card import read_judge_card
from goodrate.relevance.judge_format import JudgeFormat
from goodrate.relevance.lm_judge import RULES_FILE, Card, judge_rules, write_lm_card
from goodrate.relevance.rulebook import rule_labels
from goodrate.run_folder import new_folder
from goodrate.scale import RelevanceScale, get_scale

NOT_OF_CARDS = {"rule_book", "chat"}  # settings that a card has in another form


def label_token_ids(model: CausalLM, scale: str | RelevanceScale) -> list[int]:
    """The token of each label position, worst first: the digits from "1". ValueError when one is not a single token."""
    scale = get_scale(scale)
    digits = [str(position + 1) for position in range(len(scale))]
    ids = [model.encode(digit) for digit in digits]
    split = [digit for digit, tokens in zip(digits, ids, strict=True) if len(tokens) != 1]
    if split:
        raise ValueError(
            f"label {split[0]!r} of the {len(scale)} of scale {scale.name} is {len(model.encode(split[0]))} tokens in "
            "this tokenizer; a language model's judge needs one token a label: bin them (edges in a scale's file, "
            "docs/data.md), or train judge_encoder"
        )
    label_tokens = [tokens[0] for tokens in ids]
    if len(set(label_tokens)) < len(label_tokens):
        raise ValueError(f"labels {digits} share a token in this tokenizer: {label_tokens}")
    return label_tokens


def stop_token_id(model: CausalLM) -> int:
    """The token that ends a completion: the tokenizer's end token. ValueError when it has none (BERT: its [SEP])."""
    for token in (model.tokenizer.eos_token_id, model.tokenizer.sep_token_id):
        if token is not None:
            return int(token)
    raise ValueError("the tokenizer has neither an end token nor a separator to stop a completion with")


def open_start(name: str, judge_format: JudgeFormat) -> CausalLM:
    """A model to make a judge of, with prompts in its chat template where the format wants that, else behind its start.

    A template writes the start token itself where the model wants one. Without it a pretrained Gemma loses much of what
    it knows (docs/probe_judge.md).

    Raises what CausalLM.load raises, and ValueError when its chat template is wanted and of no use.
    """
    model = CausalLM.load(name)
    if judge_format.chat or (judge_format.chat is None and model.tokenizer.chat_template):
        model.frame = chat_frame(model.tokenizer, name)
    else:
        model.prompt_start = tuple(model.start_ids)
    return model


def open_policy(folder: str | Path) -> tuple[CausalLM, JudgeFormat, dict[str, int]]:
    """A judge to train further: its model, its format, and label position by rule id (empty: its book is unknown).

    Raises ValueError for a judge that is no language model.
    """
    card = read_judge_card(folder)
    if not isinstance(card, Card):
        raise ValueError(f"{folder} is a judge of kind {card.kind!r}; this recipe trains judges of kind 'lm'")
    fields = {name: getattr(card, name) for name in JudgeFormat.model_fields if name not in NOT_OF_CARDS}
    book = Path(folder) / RULES_FILE
    judge_format = JudgeFormat(
        **fields, rule_book=book if book.is_file() else None, chat=bool(card.chat_frame)
    )  # fmt: skip
    model = CausalLM.load(folder)
    model.surround_prompts(card.chat_frame, card.start_token_ids)
    return model, judge_format, rule_labels(judge_rules(folder, card))


def judge_card(model: CausalLM, judge_format: JudgeFormat) -> Card:
    """The card of a freshly trained judge: not calibrated, tiers at the median."""
    fields = {**judge_format.model_dump(exclude=NOT_OF_CARDS), "contexts": judge_format.contexts or 0}
    return Card(
        label_token_ids=tuple(label_token_ids(model, judge_format.relevance_scale)), stop_token_id=stop_token_id(model),
        **model.around_prompts(), **fields,
    )  # fmt: skip


def _require_finite(model: CausalLM, run: Path) -> None:
    """ValueError naming the run and its last update when a weight is no finite number."""
    broken = [name for name, weight in model.network.named_parameters() if not bool(weight.isfinite().all())]
    if not broken:
        return
    result = run / "result.json"
    update = json.loads(result.read_text(encoding="utf-8"))["updates"] if result.is_file() else "the last"
    raise ValueError(
        f"{run}: the training diverged: after update {update} {len(broken):,} weights such as {broken[0]} are not "
        "finite numbers; no judge is written. Train again in another --out with a lower learning_rate"
    )


def write_judge(model: CausalLM, judge_format: JudgeFormat, folder: Path, adapter: Adapter | None = None) -> Path:
    """Save the model with its judge.json; the folder appears complete or not at all.

    adapter: merged into the model, so that the next stage starts from plain weights; saved apart too, in `adapter/`.
    Raises ValueError for weights that are not finite numbers: such a judge fails on every pair.
    """
    _require_finite(model, folder.parent)
    with new_folder(folder) as beside:
        if adapter:
            adapter.save(beside / "adapter")
            adapter.merge()
        model.save(beside)
        write_lm_card(beside, judge_card(model, judge_format), judge_format.rule_book)
    return folder
