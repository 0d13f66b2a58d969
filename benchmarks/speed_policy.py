"""A GRPO update beside TRL's GRPOTrainer: same network, prompts, group, lengths, precision, AdamW, no KL.

    python benchmarks/speed_policy.py time --prompt 256 --completion 64 --group 8 --precision bf16
    python benchmarks/speed_policy.py time --model gemma --folder GEMMA --lora --prompt 256 --completion 64 --rounds 3
    python benchmarks/speed_policy.py memory --model gemma --folder GEMMA --lora --prompt 256 --completion 64
    python benchmarks/speed.py table --write

Needs the extra `parity`. Arms, each a whole update of eight prompts (sampling, loss, gradients, clipping, step):

trl        TRL's trainer; its callback runs the other arms between its steps, so that all see the same minutes
plain      our loop with Hugging Face's generate, each prompt copied for each completion: what our loop itself gives
eager      the same with eager attention, which on CPUs is sometimes the faster one
cache      prompts computed once in the loss, their cache copied to the rows; our sampler
split      what goodrate does: prompts' keys are never copied
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer

from goodrate.learning.advantages import group_relative, to_tokens
from goodrate.learning.fit import accumulate
from goodrate.learning.policy import PolicyScorer, micro_batches
from goodrate.learning.policy_terms import PolicyTermSettings, policy_terms
from goodrate.learning.records import Prompts, Rollout, Update, on_device
from goodrate.learning.rollout import Sampling, sample
from goodrate.models.adapter import LoraSettings, add_adapter
from goodrate.models.causal_lm import CausalLM
from goodrate.models.completion_forward import Sharing
from goodrate.models.precision import autocast, evaluating
from goodrate.models.shared_prefix import can_attend
from lib.tables import markdown
from lib.timing import Document, Measurement, Sample, between, conditions, number, ratio, significant, spread
from lib.trl_peer import quiet, random_qwen3, trainer_settings, word_tokenizer

PROMPTS, VOCABULARY, RATE, STOP = 8, 8192, 1e-5, 1
DEVICE = torch.device("cpu")  # gpu_check.py times the same on a GPU
PARTS = ("sampling", "learning")
LORA = LoraSettings(rank=16, alpha=32.0)
ARMS = ("trl", "plain", "eager", "cache", "split")
EVERY_ARM = ",".join(ARMS)
MODELS: dict[str, dict[str, Any]] = {
    "5M": {"hidden_size": 192, "num_hidden_layers": 8, "num_attention_heads": 6, "num_key_value_heads": 3,
           "head_dim": 32, "intermediate_size": 512},
    "15M": {"hidden_size": 384, "num_hidden_layers": 8, "num_attention_heads": 6, "num_key_value_heads": 3,
            "head_dim": 64, "intermediate_size": 1024},
    "0.6B": {"hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
             "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151_936},  # Qwen3-0.6B's, random
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What is measured. micro_rows: completions in one micro-batch, the same for every arm."""

    model: str
    prompt: int
    completion: int
    group: int
    precision: Literal["fp32", "bf16"]
    micro_rows: int
    folder: str | None = None  # of a pretrained model; None: a random Qwen3 of the size that `model` names
    lora: bool = False

    @property
    def name(self) -> str:
        """What its result is called."""
        return f"policy-{self.model}-{self.prompt}-{self.completion}-{self.group}-{self.precision}"


def words_of(case: Case) -> int:
    """The size of its vocabulary."""
    if case.folder:
        return int(json.loads((Path(case.folder) / "config.json").read_text(encoding="utf-8"))["vocab_size"])
    return int(MODELS[case.model].get("vocab_size", VOCABULARY))


def network(case: Case) -> Any:
    """The model of the folder, or a random Qwen3 of that size."""
    if case.folder:
        return CausalLM.load(case.folder, device=DEVICE).network
    with DEVICE:
        return random_qwen3(**{
            "vocab_size": VOCABULARY, "max_position_embeddings": 1024, "tie_word_embeddings": True,
            "eos_token_id": STOP, "pad_token_id": 0, "bos_token_id": None, **MODELS[case.model],
        })  # fmt: skip


def prompts(case: Case, update: int) -> list[tuple[int, ...]]:
    """Eight random prompts of exactly that length."""
    draw = torch.Generator().manual_seed(update)
    words = min(VOCABULARY, words_of(case))
    return [tuple(row) for row in torch.randint(3, words, (PROMPTS, case.prompt), generator=draw).tolist()]


def reward_of(token_ids: list[int]) -> float:
    """Something that differs within a group: the share of even tokens."""
    return sum(token % 2 == 0 for token in token_ids) / len(token_ids)


class Ours:
    """Our update, in one of its ways."""

    def __init__(self, case: Case, arm: str) -> None:
        self.case, self.arm, self.updates = case, arm, 0
        self.model = CausalLM(network(case), word_tokenizer(words_of(case)), case.precision)
        net = self.model.network
        net.set_attn_implementation("eager" if arm == "eager" else "sdpa")
        self.sharing: Sharing = arm if arm in ("cache", "split") else "plain"  # type: ignore[assignment]
        if arm == "split":
            assert can_attend(net)
        add_adapter(net, LORA if case.lora else None, seed=0)
        self.scorer = PolicyScorer(net, sharing=self.sharing)
        trained = [weight for weight in net.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=RATE, fused=True)
        self.parts: list[dict[str, float]] = []

    def step(self) -> Sample:
        """One update; its sampling and learning seconds go to `parts`."""
        wall, cpu = now(), time.process_time()
        rollout = self.sampled(prompts(self.case, self.updates))
        middle = now()
        self.learn(rollout)
        self.updates += 1
        end = now()
        self.parts.append({"sampling": middle - wall, "learning": end - middle})
        return Sample(end - wall, time.process_time() - cpu)

    def sampled(self, asked: list[tuple[int, ...]]) -> Rollout:
        """Groups of completions: by Hugging Face's generate in the plain arms."""
        how = Sampling(self.case.group, 1.0, self.case.completion, STOP)
        named = Prompts(tuple(map(str, range(PROMPTS))), tuple(asked))
        if self.sharing != "plain":
            seeds = list(range(PROMPTS * self.case.group))
            return sample(self.model, named, how, seeds, lambda completion: completion)
        return generated(self.model, named, how)

    def learn(self, rollout: Rollout) -> None:
        """Advantages, micro-batches, gradients, step."""
        rewards = [reward_of(row[m].tolist()) for row, m in zip(rollout.completion_ids, rollout.mask, strict=True)]
        a = group_relative(torch.tensor(rewards), rollout.group, scale="population")
        tensors = {"mask": rollout.mask, "advantages": to_tokens(a, rollout.mask)}
        if rollout.behaviour_logprobs is not None:
            tensors["behaviour"] = rollout.behaviour_logprobs
        terms, _ = policy_terms(PolicyTermSettings(kl=0.0), on_policy=True)
        groups = max(1, self.case.micro_rows // self.case.group)
        tokens = groups * (self.case.prompt + self.case.group * self.case.completion)
        update = Update(micro_batches(rollout, tensors, tokens), terms, {}, [])
        assert len(update.micro_batches) == -(-PROMPTS // groups)
        self.model.network.train()
        context = lambda: autocast(self.case.precision, DEVICE)  # noqa: E731
        accumulate(self.scorer, on_device(update, DEVICE), lambda loss: loss.backward(), forward_context=context)
        torch.nn.utils.clip_grad_norm_(self.model.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def generated(model: CausalLM, asked: Prompts, how: Sampling) -> Rollout:
    """What Hugging Face's generate writes: prompts copied for every completion."""
    ids = torch.tensor([row for row in asked.token_ids for _ in range(how.group_size)], device=DEVICE)
    with evaluating(model.network), autocast(model.precision, DEVICE):
        whole = model.network.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=how.temperature, top_k=0,
            max_new_tokens=how.max_new_tokens, eos_token_id=STOP, pad_token_id=0,
        )  # fmt: skip
    written = whole[:, ids.shape[1] :].cpu()
    ended = (written == STOP).cumsum(1)
    mask = (ended == 0) | ((ended == 1) & (written == STOP))
    row = torch.arange(len(asked)).repeat_interleave(how.group_size)
    return Rollout(
        example_id=row, group=row.clone(), arm=torch.zeros_like(row), sampled_under=asked, completion_ids=written,
        mask=mask, behaviour_logprobs=None, finish_reason=("length",) * len(row),
        parsed=(None,) * len(row), temperature=how.temperature,
    )  # fmt: skip


def trl_trainer(case: Case, folder: Path, updates: int) -> Any:
    """TRL's trainer for so many updates."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer

    rows = PROMPTS * case.group
    settings = GRPOConfig(**trainer_settings(
        folder, use_cpu=DEVICE.type == "cpu", bf16=case.precision == "bf16", save_strategy="no", max_steps=updates,
        per_device_train_batch_size=min(case.micro_rows, rows),
        gradient_accumulation_steps=-(-rows // case.micro_rows), num_generations=case.group, beta=0.0,
        max_completion_length=case.completion, learning_rate=RATE, max_grad_norm=1.0, optim="adamw_torch_fused",
        logging_strategy="no", disable_tqdm=True, temperature=1.0, lr_scheduler_type="constant",
    ))  # fmt: skip
    words = [" ".join(f"w{i}" for i in prompt) for u in range(updates + 1) for prompt in prompts(case, u)]

    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [reward_of(ids) for ids in completion_ids]

    peft = {"r": LORA.rank, "lora_alpha": LORA.alpha, "target_modules": LORA.target_modules, "task_type": "CAUSAL_LM"}

    with quiet():
        return GRPOTrainer(
            network(case), [reward], settings, Dataset.from_list([{"prompt": text} for text in words]),
            processing_class=word_tokenizer(words_of(case)), peft_config=LoraConfig(**peft) if case.lora else None,
        )  # fmt: skip


def now() -> float:
    """Seconds, when the device has done what it was asked for."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def in_turn(
    case: Case, rounds: int, arms: Sequence[str] = ARMS
) -> tuple[dict[str, list[Sample]], dict[str, list[dict[str, float]]]]:
    """Every round runs each arm once; the first one is not kept. Also what sampling and learning took in ours."""
    from transformers import TrainerCallback

    ours = {arm: Ours(case, arm) for arm in arms if arm != "trl"}
    samples: dict[str, list[Sample]] = {arm: [] for arm in arms}

    class BetweenSteps(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = now(), time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            wall, cpu = self.start
            samples["trl"].append(Sample(now() - wall, time.process_time() - cpu))
            names = list(ours)
            shift = len(samples["trl"]) % len(names)
            for name in names[shift:] + names[:shift]:
                samples[name].append(ours[name].step())
            print({name: significant(runs[-1].wall, 3) for name, runs in samples.items()}, flush=True)

    with tempfile.TemporaryDirectory() as folder, quiet():
        trainer = trl_trainer(case, Path(folder), rounds + 1)
        trainer.add_callback(BetweenSteps())
        trainer.train()
    return {n: runs[1:] for n, runs in samples.items()}, {name: one.parts[1:] for name, one in ours.items()}


app = typer.Typer(add_completion=False, help=__doc__)
Model = Annotated[str, typer.Option(help=f"Of {', '.join(MODELS)}.")]
Precision = Annotated[str, typer.Option(help="fp32 or bf16 (autocast).")]
Folder = Annotated[str, typer.Option(help="A causal language model to take in place of a random Qwen3.")]
Lora = Annotated[bool, typer.Option("--lora", help="Train an adapter of rank 16 and nothing else.")]
Arms = Annotated[str, typer.Option(help=f"Of {', '.join(ARMS)}; split is always one.")]


def case_of(
    model: str, prompt: int, completion: int, group: int, precision: str, folder: str = "", lora: bool = False
) -> Case:
    """Micro-batches of 64 rows for short prompts and 16 for long ones, as memory has it."""
    rows = 64 if prompt <= 64 else 16
    return Case(model, prompt, completion, group, precision, rows, folder or None, lora)  # type: ignore[arg-type]


@app.command("time")
def time_(
    model: Model = "5M", prompt: int = 64, completion: int = 48, group: int = 8, precision: Precision = "bf16",
    rounds: int = 5, threads: int = 2, folder: Folder = "", lora: Lora = False, arms: Arms = EVERY_ARM,
) -> None:  # fmt: skip
    """Seconds of an update, all arms in turn."""
    torch.set_num_threads(threads)
    case = case_of(model, prompt, completion, group, precision, folder, lora)
    command = (
        f"python benchmarks/speed_policy.py time --model {model} --prompt {prompt} --completion {completion} "
        f"--group {group} --precision {precision} --rounds {rounds} --threads {threads}"
    )
    command += f" --folder {Path(folder).name} --arms {arms}" if folder else ""
    command += " --lora" if lora else ""
    result = Measurement(case.name, command, threads)
    samples, parts = in_turn(case, rounds, arms.split(","))
    over = {
        f"{part}_over_split": {
            n: spread([a[part] / b[part] for a, b in zip(parts[n], parts["split"], strict=True)])
            for n in parts
            if n != "split"
        }
        for part in PARTS
    }
    print(result.write(
        trl=version("trl"), case=described(case),
        parameters=sum(p.numel() for p in network(case).parameters()),
        arms={n: {"wall": spread([r.wall for r in runs])} for n, runs in samples.items()},
        parts={n: {part: spread([run[part] for run in runs]) for part in PARTS} for n, runs in parts.items()},
        over_split={n: ratio(samples, n, "split")["wall"] for n in samples if n != "split"}, **over,
    ))  # fmt: skip


def described(case: Case) -> dict[str, Any]:
    """The case as its result says it."""
    folder = Path(case.folder).name if case.folder else None
    return {**vars(case), "folder": folder, "prompts": PROMPTS, "vocabulary": words_of(case)}


@app.command()
def memory(
    model: Model = "5M", prompt: int = 256, completion: int = 64, group: int = 8, precision: Precision = "bf16",
    folder: Folder = "", lora: Lora = False, arms: Arms = "trl,split",
) -> None:  # fmt: skip
    """Peak memory of updates over that of the loaded model, in MiB, a fresh process for every arm.

    Two updates, or one of a pretrained model: an adapter's optimizer adds nothing in the second.
    """
    case = case_of(model, prompt, completion, group, precision, folder, lora)
    result = Measurement(f"memory-{case.name}", "python benchmarks/speed_policy.py memory", 2)
    print(result.write(case=described(case), mib={arm: peak(case, arm) for arm in arms.split(",")}))


def peak(case: Case, arm: str) -> float:
    """MiB, as a process of its own measures them."""
    command = [sys.executable, __file__, "child", json.dumps({**vars(case), "arm": arm})]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


@app.command(hidden=True)
def child(given: str) -> None:
    """One arm, for its memory."""
    told = json.loads(given)
    arm = told.pop("arm")
    torch.set_num_threads(2)
    case = Case(**told)
    with tempfile.TemporaryDirectory() as folder:
        ours = None if arm == "trl" else Ours(case, arm)
        updates = 1 if case.folder else 2
        trainer = trl_trainer(case, Path(folder), updates) if arm == "trl" else None
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if trainer:
            trainer.train()
        for _ in range(updates if ours else 0):
            ours.step()  # type: ignore[union-attr]
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def render(results: Mapping[str, Document]) -> list[str]:
    """A row per size and precision: seconds of our update, how many times as long the others take, peak memory.

    Peak memory is of `speed_policy.py memory` at commit 27add66; gpu_check.py measures it on a GPU.
    """
    documents = [d for name, d in results.items() if name.startswith("policy-")]
    if not documents:
        return []
    rows = [[
        "parameters, prompt / completion / group, precision", "ours: sampling + learning, s", "TRL over ours",
        "plain loop over ours", "plain loop, eager attention", "cache copied", "sampling: HF generate over ours",
        "learning: copied prompts over ours", "peak MiB: TRL, ours",
    ]]  # fmt: skip
    for d in sorted(documents, key=lambda d: (d["parameters"], d["case"]["prompt"], d["case"]["precision"])):
        case, over, ours = d["case"], d["over_split"], d["parts"]["split"]
        mib = results.get(f"memory-{d['name']}", {}).get("mib", {})
        size = f"{case['prompt']} / {case['completion']} / {case['group']}"
        what = f"{d['parameters'] / 1e6:.1f}M" if not case.get("folder") else case["folder"]
        what += f", {case['vocabulary']:,} words" + (", LoRA" if case.get("lora") else "")
        rows.append([
            f"{what}, {size}, {case['precision']}",
            f"{number(ours['sampling']['median'])} + {number(ours['learning']['median'])}",
            f"**{between(over['trl'])}**", *(between(over[arm]) if arm in over else "" for arm in ARMS[1:-1]),
            *(between(d[f"{part}_over_split"]["plain"]) if "plain" in over else "" for part in PARTS),
            f"{number(mib['trl'])}, {number(mib['split'])}" if mib else "",
        ])  # fmt: skip
    first = documents[0]
    counts = [d["arms"]["split"]["wall"]["n"] for d in documents]
    rounds = " to ".join(str(n) for n in sorted({min(counts), max(counts)}))
    facts = (
        f"Random Qwen3 where no model is named, {first['case']['prompts']} prompts an update, no KL, "
        f"AdamW, TRL {first['trl']}; medians of {rounds} updates each in turn (min to max). *Plain loop* is goodrate's "
        "own with Hugging Face's generate and every prompt copied; *cache copied* has everything but the attention "
        "that leaves the prompts' keys where they are. Memory is the peak of two updates over the loaded trainer."
    )
    title = "### An update of GRPO, beside TRL's GRPOTrainer"
    return [title, conditions(documents, documents[0]["command"]), markdown(rows), facts]


if __name__ == "__main__":
    app()
