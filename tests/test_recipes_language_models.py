"""Base training and judge fine-tuning on toy language: they learn it, resume it, and refuse what cannot work."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.fit import FitSettings
from goodrate.learning.token_examples import TokenExample
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes import base, judge_sft
from goodrate.recipes.judge_folder import JudgeFormat, label_token_ids
from goodrate.settings import load

torch.set_num_threads(1)
WORDS = ["red", "blue", "green", "cup", "hat", "shoe", "query:", "item:", "answer:", *"1234", "why", "same", "other"]
TINY = base.NetworkSettings(hidden=32, layers=2, heads=2, key_value_heads=1, intermediate=64, max_positions=64)


def toy_tokenizer(words: list[str] = WORDS) -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(["<pad>", "<eos>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


@pytest.fixture
def start_model(tmp_path: Path) -> Path:
    tokenizer = toy_tokenizer()
    CausalLM(base.make_network(TINY, tokenizer, seed=3), tokenizer).save(tmp_path / "start")
    return tmp_path / "start"


def toy_examples() -> list[JudgePrompt]:
    """Label 4 for red items, else 1."""
    things = ["cup", "hat", "shoe"]
    return [
        JudgePrompt(f"{q} {c} {i}", f"query: {q} ", f"item: {c} {i} answer: ", label, completion)
        for q, i in itertools.product(things, things)
        for c, label, completion in (("red", 3, "4 why same"), ("blue", 0, "1 why other"))
    ]


def sft_settings(model: Path, **changes: object) -> judge_sft.Settings:
    fit = FitSettings(updates=60, precision="fp32", warmup=0.1)
    return judge_sft.Settings(
        **{"model": str(model), "fit": fit, "batch_size": 6, "epochs": 100, "learning_rate": 1e-2, **changes}
    )


def test_judge_sft_learns_a_toy_task_and_writes_a_judge(start_model: Path, tmp_path: Path) -> None:
    seen: list[dict] = []
    folder = judge_sft.train(sft_settings(start_model), toy_examples(), tmp_path / "run", seen.append)
    assert len(seen) == 60 and seen[-1]["loss"] < 0.1 < 1.0 < seen[0]["loss"]
    facts = json.loads((folder / "judge.json").read_text())
    model = CausalLM.load(folder)
    assert facts["label_token_ids"] == [model.encode(d)[0] for d in "1234"] and facts["order"] == "label_first"
    logits = model.label_logits([(e.prefix, e.suffix) for e in toy_examples()], facts["label_token_ids"])
    assert logits.argmax(1).tolist() == [int(e.completion[0]) - 1 for e in toy_examples()]
    written = model.generate([("query: hat ", "item: red hat answer: ")], 8, facts["stop_token_id"])[0]
    assert written.text == "4 why same" and written.finish_reason == "stop"


def test_judge_sft_killed_and_resumed_gives_the_same_weights(start_model: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(record: dict) -> None:
        if record["update"] == 5:
            raise Killed

    fit = FitSettings(updates=8, precision="fp32", checkpoint_updates=3)
    settings = sft_settings(start_model, fit=fit)
    straight = judge_sft.train(settings, toy_examples(), tmp_path / "straight")
    with pytest.raises(Killed):
        judge_sft.train(settings, toy_examples(), tmp_path / "killed", kill)
    resumed = judge_sft.train(settings, toy_examples(), tmp_path / "killed")
    first, second = (CausalLM.load(folder).network.state_dict() for folder in (straight, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_resumes_with_other_settings_of_memory_and_speed_and_ends_the_same(
    start_model: Path, tmp_path: Path
) -> None:
    fit = FitSettings(updates=8, precision="fp32", checkpoint_updates=3)
    straight = judge_sft.train(sft_settings(start_model, fit=fit), toy_examples(), tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        judge_sft.train(sft_settings(start_model, fit=fit), toy_examples(), tmp_path / "cut", interrupt_at(5))
    logs_more = fit.model_copy(update={"log_every": 1, "checkpoint_updates": 2})
    other = sft_settings(start_model, fit=logs_more, micro_tokens=10)
    resumed = judge_sft.train(other, toy_examples(), tmp_path / "cut")
    first, second = (CausalLM.load(folder).network.state_dict() for folder in (straight, resumed))
    for name, weight in first.items():
        torch.testing.assert_close(second[name], weight, rtol=1e-4, atol=1e-5)
    assert load(judge_sft.Settings, tmp_path / "cut" / "settings.toml") == other  # as it was run to its end
    with pytest.raises(ValueError, match=r"holds another run \(learning_rate 0.01 -> 0.5\)"):
        judge_sft.train(sft_settings(start_model, fit=fit, learning_rate=0.5), toy_examples(), tmp_path / "cut")


def interrupt_at(update: int) -> Callable[[dict], None]:
    """Ctrl-C at this update."""

    def stop(record: dict) -> None:
        if record["update"] == update:
            raise KeyboardInterrupt

    return stop


def test_label_weight_and_prompt_mask(start_model: Path) -> None:
    model = CausalLM.load(start_model)
    settings = sft_settings(start_model, label_weight=3.0)
    example = JudgePrompt("a", "query: cup ", "item: hat answer: ", 0, "1 why other", weight=0.5)
    encoded = judge_sft.encode(model, example, settings, label_token_ids(model, "four_level"))
    # 5 prompt tokens unweighted, label 0.5 * 3, then "why", "other", <eos> 0.5 each
    assert encoded.weights == (0, 0, 0, 0, 0, 1.5, 0.5, 0.5, 0.5) and encoded.token_ids[-1] == 1
    last = settings.model_copy(update={"format": JudgeFormat(order="reason_first")})
    reason_first = replace(example, completion="why other 1", weight=1.0)
    labels = label_token_ids(model, "four_level")
    assert judge_sft.encode(model, reason_first, last, labels).weights[-4:] == (1, 1, 3, 1)
    with pytest.raises(ValueError, match="no label where label_first"):
        judge_sft.encode(model, reason_first, settings, labels)
    with pytest.raises(ValueError, match="a: no completion; SFT needs one of every prompt"):
        judge_sft.encode(model, replace(example, completion=None), settings, labels)


def test_what_judge_sft_refuses(start_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_tokens = 4"):
        judge_sft.train(sft_settings(start_model, max_tokens=4), toy_examples(), tmp_path / "run")
    tokenizer = toy_tokenizer([*WORDS[:-6], "why"])
    CausalLM(base.make_network(TINY, tokenizer, seed=3), tokenizer).save(tmp_path / "digitless")
    # "2" maps to <unk>, one token: distinct labels must stay distinct
    with pytest.raises(ValueError, match="label"):
        judge_sft.train(sft_settings(tmp_path / "digitless"), toy_examples(), tmp_path / "run2")


def documents(start: int) -> Iterator[TokenExample]:
    """Documents of 4 to 6 tokens: a colour, then the thing that always goes with it."""
    tokenizer = toy_tokenizer()
    for number in itertools.count(start):
        pair = [("red", "cup"), ("blue", "hat"), ("green", "shoe")][number % 3]
        words = " ".join(pair * (2 + number % 2))
        ids = (*tokenizer.encode(words, add_special_tokens=False), 1)
        yield TokenExample(ids, (1.0,) * len(ids))


def test_base_training_learns_resumes_and_takes_no_document_twice(tmp_path: Path) -> None:
    fit = FitSettings(updates=30, precision="fp32", checkpoint_updates=4, log_every=1, evaluate_every=10)
    settings = base.Settings(network=TINY, batch_size=4, learning_rate=1e-2, fit=fit)
    gates = {"evaluate": lambda model, update: {"gate": update / 10}}
    folder = base.train_base(settings, documents, toy_tokenizer(), tmp_path / "a", **gates)
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [line["update"] for line in lines] == list(range(1, 31)) and lines[19]["gate"] == 2.0
    assert lines[-1]["loss"] < 0.6 * lines[0]["loss"]

    def kill(record: dict) -> None:
        if record["update"] == 11:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        base.train_base(settings, documents, toy_tokenizer(), tmp_path / "b", progress=kill)
    resumed = base.train_base(settings, documents, toy_tokenizer(), tmp_path / "b")
    first, second = (CausalLM.load(path).network.state_dict() for path in (folder, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    again = [json.loads(line)["update"] for line in (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()]
    assert again == list(range(1, 31))
