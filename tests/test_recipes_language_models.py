"""Base training and judge fine-tuning on toy language: they learn it, resume it, and refuse what cannot work."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import tiny_models
from goodrate.examples.judge_prompts import judge_prompts
from goodrate.examples.prompts import JudgePrompt
from goodrate.learning.fit import FitSettings
from goodrate.learning.token_examples import TokenExample
from goodrate.models.causal_lm import CausalLM
from goodrate.models.chat_frame import ChatFrame
from goodrate.models.quiet import no_old_names
from goodrate.recipes import base, judge_sft
from goodrate.recipes.judge_folder import JudgeFormat, label_token_ids, open_policy, open_start, write_judge
from goodrate.recipes.judge_rollouts import tokenize_prompts
from goodrate.relevance.calibration import softmax
from goodrate.relevance.lm_judge import LmJudge
from goodrate.relevance.pairs import JudgedPair, Pair, text_item
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


def test_a_pair_without_a_reason_does_not_teach_silence_beside_pairs_with_one(
    start_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[list[float]] = []

    def recorded(settings: Any, model: Any, encoded: Any, *rest: Any, **more: Any) -> None:
        trained.extend([list(example.weights[5:]) for example in encoded])

    monkeypatch.setattr(judge_sft, "tune", recorded)
    with_reason = JudgePrompt("a", "query: cup ", "item: hat answer: ", 0, "1 why other", steps={"verdict": "why"})
    bare = replace(with_reason, completion="1", steps={})
    judge_sft.train(sft_settings(start_model), [with_reason, bare], tmp_path / "mixed")
    judge_sft.train(sft_settings(start_model), [bare], tmp_path / "labels")
    assert trained == [[1, 1, 1, 1], [1, 0], [1, 1]]  # the last of each is the token that ends a completion


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


FAMILIES = {
    "llama": tiny_models.tokenizer,
    "qwen3": tiny_models.tokenizer,
    "smollm": tiny_models.tokenizer,
    "gemma3": tiny_models.sentencepiece_tokenizer,
}
SHAPES = ("plain", "no pad token", "sharded", "bf16", "adapter", "chat")


def start_folder(family: str, shape: str, folder: Path) -> Path:
    """A random model as the hub might have it."""
    words = FAMILIES[family]()
    if shape == "no pad token":
        words.pad_token = None
    if shape == "chat":
        words.chat_template = tiny_models.chat_template()
    network = tiny_models.network(family, len(words))
    if shape == "bf16":
        network = network.bfloat16()
    network.save_pretrained(folder / "start", max_shard_size="40KB" if shape == "sharded" else "5GB")
    words.save_pretrained(folder / "start")
    if shape != "adapter":
        return folder / "start"
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    with no_old_names():
        adapted = get_peft_model(network, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.peft_config["default"].base_model_name_or_path = str(folder / "start")
    adapted.save_pretrained(folder / "adapter")
    return folder / "adapter"


@pytest.mark.parametrize(
    ("family", "shape"),
    [("llama", "no pad token"), *((family, "plain") for family in FAMILIES), *(("gemma3", s) for s in SHAPES[1:])],
)
def test_models_of_every_kind_are_trained_saved_and_reopened(family: str, shape: str, tmp_path: Path) -> None:
    start = start_folder(family, shape, tmp_path)
    if shape == "sharded":
        assert len(list(start.glob("model-*.safetensors"))) > 1
    pairs = [Pair("red lamp", text_item(f"lamp {'red steel ' * n}")) for n in range(5)]
    judged = [JudgedPair(pair.query, pair.item, label=n % 4) for n, pair in enumerate(pairs)]
    form = JudgeFormat(template="nano", max_new_tokens=20)
    settings = sft_settings(start, format=form, fit=FitSettings(updates=3, precision="fp32"), learning_rate=1e-3)
    model = open_start(str(start), form)
    prompts, _ = judge_prompts(model, judged, form, label_completions=True)
    before = {name: part.clone() for name, part in model.network.state_dict().items()}
    folder = judge_sft.train(settings, prompts, tmp_path / "run", model=model)
    assert any(not torch.equal(part, model.network.state_dict()[name]) for name, part in before.items())
    judge = LmJudge.load(folder, precision="fp32")
    assert judge.card.chat_frame == (
        ("<start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n") if shape == "chat" else ()
    )
    ids = [model.encode_pair(prompt.prefix, prompt.suffix) for prompt in prompts]
    with torch.no_grad():
        logits = [model.network(torch.tensor([row])).logits[0, -1, list(judge.card.label_token_ids)] for row in ids]
    expected = torch.softmax(torch.stack(logits).float(), -1).numpy()
    np.testing.assert_allclose(judge.assess(pairs).probabilities, expected, atol=1e-5)
    policy, again, _ = open_policy(folder)
    assert policy.frame == model.frame and again.chat == (shape == "chat")
    assert policy.prompt_start == model.prompt_start == judge.card.start_token_ids


@pytest.mark.parametrize("order", ["label_first", "reason_first"])
def test_a_base_that_has_a_start_token_reads_it_in_training_and_in_judging(order: Any, tmp_path: Path) -> None:
    start = start_folder("gemma3", "plain", tmp_path)
    form = JudgeFormat(template="nano", max_new_tokens=20, order=order)
    model = open_start(str(start), form)
    bos, judged = model.tokenizer.bos_token_id, [JudgedPair("red lamp", text_item("lamp red"), label=3)]
    (prompt,), _ = judge_prompts(model, judged, form, label_completions=True)
    learned = judge_sft.encode(model, prompt, sft_settings(start, format=form), label_token_ids(model, "four_level"))
    judge = LmJudge.load(write_judge(model, form, tmp_path / "judge"), precision="fp32")
    served, _, _ = judge._prompts(judged)
    assert served[0] is not None and judge.card.start_token_ids == (bos,) and judge.identity["start"] == [bos]
    read = judge.model.prompt_ids(served[0])  # type: ignore[attr-defined]
    assert read == judge.model.encode_pair(*served[0]) == list(learned.token_ids[: len(read)])
    assert read[0] == bos and bos not in read[1:] and learned.weights[: len(read)] == (0.0,) * len(read)
    policy, _, _ = open_policy(tmp_path / "judge")
    assert tokenize_prompts(policy, [prompt], 20)[0].token_ids == tuple(read)


def test_a_judge_from_before_start_tokens_judges_as_it_did(tmp_path: Path) -> None:
    start = start_folder("gemma3", "plain", tmp_path)
    form = JudgeFormat(template="nano", max_new_tokens=20)
    folder, pairs = tmp_path / "judge", [Pair("red lamp", text_item("lamp red"))]
    write_judge(open_start(str(start), form), form, folder)
    behind = LmJudge.load(folder, precision="fp32").assess(pairs).probabilities
    card = json.loads((folder / "judge.json").read_text())
    (folder / "judge.json").write_text(json.dumps({k: v for k, v in card.items() if k != "start_token_ids"}))
    old = LmJudge.load(folder, precision="fp32")
    bare = CausalLM.load(start, precision="fp32").label_logits(old._prompts(pairs)[0], old.card.label_token_ids)  # type: ignore[arg-type]
    np.testing.assert_array_equal(old.assess(pairs).probabilities, softmax(bare.astype(float)))
    assert "start" not in old.identity and float(np.abs(behind - softmax(bare.astype(float))).max()) > 1e-4
    for wrong, told in (([-1], "start_token_ids -1: expected a"), ([10**6], "start_token_ids 1000000: the model")):
        (folder / "judge.json").write_text(json.dumps({**card, "start_token_ids": wrong}))
        with pytest.raises(ValueError, match=told):
            LmJudge.load(folder)


def test_nano_and_chat_templates_are_given_no_start_token(tmp_path: Path) -> None:
    assert open_start("nano", JudgeFormat()).prompt_start == ()
    assert open_start(str(start_folder("gemma3", "chat", tmp_path)), JudgeFormat()).prompt_start == ()


def test_the_chat_template_can_be_left_out_and_must_be_there_when_it_is_wanted(tmp_path: Path) -> None:
    start = start_folder("gemma3", "chat", tmp_path)
    assert open_start(str(start), JudgeFormat(chat=False)).frame == ChatFrame()
    assert open_start(str(start), JudgeFormat(chat=True)).frame == open_start(str(start), JudgeFormat()).frame
    bare = start_folder("gemma3", "plain", tmp_path / "bare")
    with pytest.raises(ValueError, match="has no chat template; set format.chat to false"):
        open_start(str(bare), JudgeFormat(chat=True))


def test_a_judge_keeps_its_frame_when_the_template_in_its_folder_changes(tmp_path: Path) -> None:
    start = start_folder("gemma3", "chat", tmp_path)
    form = JudgeFormat(template="nano", max_new_tokens=20)
    folder = write_judge(open_start(str(start), form), form, tmp_path / "judge")
    pairs = [Pair("red lamp", text_item("lamp"))]
    before = LmJudge.load(folder, precision="fp32")
    (folder / "chat_template.jinja").write_text("{{ 'Today is ' + messages[0]['content'] }}")
    after = LmJudge.load(folder, precision="fp32")
    np.testing.assert_array_equal(before.assess(pairs).probabilities, after.assess(pairs).probabilities)
    assert before.identity == after.identity and before.identity["chat_frame"][0] == "<start_of_turn>user\n"
    card = json.loads((folder / "judge.json").read_text())
    (folder / "judge.json").write_text(json.dumps({**card, "chat_frame": ["one"]}))
    with pytest.raises(ValueError, match="judge.json: chat_frame .*expected none, or the texts around a prompt"):
        LmJudge.load(folder)
