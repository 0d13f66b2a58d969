"""The shipped base: `python -m goodrate.recipes.nano OUT` trains and packs it, with its gates."""

from __future__ import annotations

import argparse
import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from goodrate.learning.fit import FitSettings
from goodrate.learning.token_examples import TokenExample
from goodrate.models.causal_lm import CausalLM
from goodrate.recipes import base
from goodrate.recipes.base_gates import SkillScore, score_skills
from goodrate.run_folder import code_versions, new_folder
from goodrate.shop import curriculum
from goodrate.shop.language import train_tokenizer
from goodrate.shop.skills import probes
from goodrate.shop.taxonomy import load_taxonomy
from goodrate.strict_json import dumps

READ_WEIGHT = 0.3  # of what is read against what is said: reading documents whole is what teaches look-up
PER_WORLD = 400


def document_stream(tokenizer: Any) -> Callable[[int], Iterator[TokenExample]]:
    """Documents of the curriculum from any number on, as token ids with loss weights."""

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    def example(document: curriculum.Document) -> TokenExample:
        read = [token for part in document.read for token in encode(part)]
        say = [*encode(document.say), tokenizer.eos_token_id]
        return TokenExample((*read, *say), (*[READ_WEIGHT] * len(read), *[1.0] * len(say)))

    def stream(start: int) -> Iterator[TokenExample]:
        documents = curriculum.stream(per_world=PER_WORLD, start=start // PER_WORLD)
        return map(example, itertools.islice(documents, start % PER_WORLD, None))

    return stream


def train(
    settings: base.Settings,
    out: Path,
    progress: Callable[[dict[str, Any]], None] | None = None,
    start: Path | None = None,
) -> Path:
    """Train tokenizer and base; gates are measured every fit.evaluate_every updates. Returns the model folder.

    start: a base to go on from, with its tokenizer.
    """
    tokenizer = _tokenizer(out / "tokenizer", start)
    few = probes(100)

    def gates(model: CausalLM, update: int) -> dict[str, float]:
        return {f"gate_{skill}": round(s.accuracy, 4) for skill, s in score_skills(model, few).items()}

    documents = document_stream(tokenizer)
    return base.train_base(settings, documents, tokenizer, out, progress=progress, evaluate=gates, start=start)


def _tokenizer(folder: Path, start: Path | None) -> Any:
    """The tokenizer of the run: kept from its first sitting (the words may have changed since), of `start`, or new."""
    from transformers import AutoTokenizer

    if folder.is_dir() or start:
        return AutoTokenizer.from_pretrained(str(folder if folder.is_dir() else start))
    tokenizer = train_tokenizer()
    with new_folder(folder) as beside:
        tokenizer.save_pretrained(str(beside))
    return tokenizer


def pack(model_folder: Path, folder: Path, training_facts: dict[str, Any]) -> dict[str, SkillScore]:
    """Write the base in bf16 with nano.json: gates on 2,000 probes and more, sha256 of the weights, how it was made."""
    import torch

    model = CausalLM.load(model_folder)
    model.network.to(torch.bfloat16).to(torch.float32)  # what the rounding costs is inside the gates
    scores = score_skills(model, probes(1000))
    model.network.to(torch.bfloat16)
    with new_folder(folder) as beside:
        model.save(beside)
        digest = _sha256(beside)
        gates = {skill: {"accuracy": round(s.accuracy, 4), "count": s.count} for skill, s in scores.items()}
        facts = {
            "sha256": digest,
            "taxonomy": load_taxonomy().version,
            "gates": gates,
            **training_facts,
            **code_versions(),
        }
        (beside / "nano.json").write_text(dumps(facts, indent=2) + "\n", encoding="utf-8")
    return scores


def _print_gates(record: dict[str, Any]) -> None:
    if "gate_parse" in record:
        print(dumps(record), flush=True)


def _sha256(folder: Path) -> str:
    """Of the weights of a model folder."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def main() -> None:
    """Train (or resume) in OUT and pack the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=3600, help="training time over all sittings")
    parser.add_argument("--pack", type=Path, help="folder to pack into; src/goodrate/models/nano is the shipped one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="a base to go on from, such as the shipped one")
    arguments = parser.parse_args()
    fit = FitSettings(seconds=arguments.seconds, evaluate_every=200, seed=arguments.seed, warmup=0.02)
    settings = base.Settings(fit=fit)
    folder = train(settings, arguments.out, _print_gates, arguments.start)
    if arguments.pack:
        training_facts = {"seed": arguments.seed, "seconds": arguments.seconds, "settings": settings.model_dump()}
        training_facts |= {"start": _sha256(arguments.start)} if arguments.start else {}
        for skill, score in pack(folder, arguments.pack, training_facts).items():
            print(f"{skill:10s} {score.accuracy:.4f} of {score.count} {'passed' if score.passed else 'NOT passed'}")


if __name__ == "__main__":
    main()
