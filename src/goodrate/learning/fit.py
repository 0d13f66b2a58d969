"""The one training loop: take an update from the source, sum its terms, step, log, checkpoint."""

from __future__ import annotations

import atexit
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from goodrate.folder_lock import one_writer
from goodrate.learning import checkpoint
from goodrate.learning.curves import write_curves
from goodrate.learning.layout import ReadsModel, Sharding
from goodrate.learning.records import Update, on_device
from goodrate.learning.reduction import denominators, reduced
from goodrate.learning.schedule import Schedule, factor, run_progress
from goodrate.learning.sharding import lay_out
from goodrate.learning.source import Source, seed_of
from goodrate.learning.tracker import Logs, run_logs
from goodrate.models.precision import autocast, resolve_precision
from goodrate.run_folder import RunFolder
from goodrate.strict_json import dumps

Record = dict[str, Any]
T = TypeVar("T")
WAY_OUT = "the last checkpoint is from before; train again in another folder with a lower learning_rate"
TRAINED = "trained_tokens"  # a fact of an update; sampling, which a source does before, is not in its rate


class FitSettings(BaseModel):
    """How long and how to step. At least one budget, or a source that ends."""

    model_config = ConfigDict(extra="forbid")
    updates: int | None = Field(default=None, gt=0, description="stop after so many updates; the deterministic budget")
    seconds: float | None = Field(default=None, gt=0, description="stop after so much training time, over all sittings")
    schedule: Schedule = Field(default="cosine", description="of the learning rate, over the budget")
    warmup: float = Field(default=0.05, ge=0, le=1, description="share of the budget in which the rate rises")
    clip_norm: float = Field(default=1.0, gt=0, description="limit of the gradient's norm; inf = none")
    precision: Literal["auto", "bf16", "fp32"] = Field(default="auto", description="auto = bf16 where the CPU has it")
    log_every: int = Field(default=10, gt=0, description="updates between records in metrics.jsonl")
    evaluate_every: int = Field(default=0, ge=0, description="updates between calls of evaluate; 0 = never")
    checkpoint_updates: int = Field(default=0, ge=0, description="updates between checkpoints; 0 = by time only")
    checkpoint_seconds: float = Field(default=60.0, gt=0, description="seconds between checkpoints")
    sharding: Sharding = Field(
        default="ddp",
        description="over several processes: a copy of the model on each (ddp), shares of it (fsdp2); by DeepSpeed "
        "shares of optimizer and gradients (zero2), or of all (zero3)",
    )
    tensorboard: bool | None = Field(default=None, description="also log to TensorBoard, in the run folder")
    seed: int = Field(default=0, description="of dropout and of whatever else draws inside an update")

    def ending(self, updates: int) -> FitSettings:
        """These settings with an end after so many updates where none is set: the schedule needs one."""
        return self.model_copy(update={"updates": self.updates or updates})

    def after(self, seconds: float) -> FitSettings:
        """These settings with what is left of the seconds when a stage spent some before training; one at least."""
        return self.model_copy(update={"seconds": max(1.0, self.seconds - seconds)}) if self.seconds else self


@runtime_checkable
class SparseGradients(Protocol):
    """An optimizer over what is no parameter: clipping does not see its gradients."""

    def gradient_norm(self) -> float:
        """Of the gradients that the next step uses, over all processes; not finite where one is not."""
        ...


class Diverged(FloatingPointError, ValueError):
    """A loss, a gradient or a weight is no finite number. The last checkpoint is from before."""


@dataclass(frozen=True)
class FitResult:
    """Where a run stands: updates done, training seconds, why it stopped, precision, the last record."""

    updates: int
    seconds: float
    stopped_by: str
    precision: str
    last: Record


def accumulate(
    model: nn.Module,
    update: Update,
    backward: Callable[[Tensor], None],
    *,
    share: slice = slice(None),
    passes: int = 1,
    forward_context: Callable[[], AbstractContextManager] = nullcontext,
    no_sync: Callable[[], AbstractContextManager] = nullcontext,
) -> dict[str, float]:
    """Forward and backward of every micro-batch in the share; returns the value of each term, diagnostic and "loss".

    Denominators are those of the whole update, so the gradients of all shares add up to the update's gradient.
    backward: gets each micro-batch's scalar. no_sync: entered for all but the last, so that ranks talk once.
    A share of fewer micro-batches than `passes` computes the update's first one at weight zero for the rest: ranks
    meet in the backward pass.
    """
    totals = dict.fromkeys([*(term.name for term in (*update.terms, *update.diagnostics)), "loss"], 0.0)
    whole = denominators(update)
    own = list(update.micro_batches[share])
    idle = max(0, passes - len(own))
    batches = [*((batch, 1.0) for batch in own), *[(update.micro_batches[0], 0.0)] * idle]
    for position, (batch, weight) in enumerate(batches):
        with nullcontext() if position == len(batches) - 1 else no_sync():
            with forward_context():
                outputs = model(batch)
            # Terms are computed in full precision: exp and logs of bf16 numbers lose ratios and probabilities.
            exact = {name: _exact(value) for name, value in outputs.items()}
            values = {t.name: reduced(t, t.loss(exact, batch), update, batch, whole[t.name]) for t in update.terms}
            loss = torch.stack(list(values.values())).sum() * weight
            backward(loss)
            exact = {name: value.detach() for name, value in exact.items()}
            values |= {
                t.name: reduced(t, t.loss(exact, batch), update, batch, whole[t.name]) for t in update.diagnostics
            }
        for name, value in (*values.items(), ("loss", loss)):
            totals[name] += float(value.detach()) * weight
    return totals


def _exact(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


def _leave_process_group() -> None:
    """Ends the communication threads: a process that exits while they run is sometimes aborted (SIGABRT)."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class _Run:
    """A run in progress: everything the loop needs between two updates."""

    def __init__(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], settings: FitSettings) -> None:
        from accelerate import Accelerator

        # Its own accumulation stays off: it would divide a second time.
        self.accelerator = Accelerator(gradient_accumulation_steps=1, mixed_precision="no")
        if self.accelerator.num_processes > 1:
            atexit.register(_leave_process_group)
        self.settings = settings
        self.device = self.accelerator.device
        self.precision = resolve_precision(settings.precision, self.device)
        self.layout = lay_out(self.accelerator, model, optimizers, settings.sharding, settings.clip_norm)
        self.bare, self.model, self.optimizers = self.layout.bare, self.layout.model, self.layout.optimizers
        self.spread = checkpoint.spread_modules(self.bare)
        self.together = bool(self.spread) or self.layout.lockstep  # all processes must run and save as one
        self._sparse = [optimizer for optimizer in optimizers if isinstance(optimizer, SparseGradients)]
        for group in self._groups():
            group.setdefault("initial_lr", group["lr"])

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _summed(self, values: dict[str, float]) -> dict[str, float]:
        """Values added up over the processes; each holds the part of its own micro-batches."""
        if self.accelerator.num_processes == 1:
            return values
        own = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        return dict(zip(values, self.accelerator.reduce(own, "sum").tolist(), strict=True))

    def agreed(self, value: T) -> T:
        """What the first process has, its clock for one: all must stop at the same update and step at the same rate."""
        if self.accelerator.num_processes == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def _sparse_norm(self, number: int) -> dict[str, float]:
        """The norm of gradients that no parameter has, which are not clipped. Diverged when it is not finite."""
        if not self._sparse:
            return {}
        norm = math.hypot(*(optimizer.gradient_norm() for optimizer in self._sparse))
        if not math.isfinite(norm):
            raise Diverged(f"update {number}: the sparse gradient is not finite; {WAY_OUT}")
        return {"sparse_gradient_norm": norm}

    def step(self, update: Update, number: int, progress: float) -> Record:
        """One optimizer step; returns what happened. Diverged when loss or gradient is not a finite number."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        torch.manual_seed(seed_of(self.settings.seed, number, rank))
        self.layout.begin(update)
        self.model.train()
        values = accumulate(
            self.model,
            on_device(update, self.device),
            lambda loss: self.layout.backward(loss * world),  # processes average their gradients; we sum
            share=slice(rank, None, world),
            passes=-(-len(update.micro_batches) // world) if self.together else 1,
            forward_context=lambda: autocast(self.precision, self.device),
            no_sync=self.layout.no_sync,
        )
        values = self._summed(values)
        if not math.isfinite(values["loss"]):
            raise Diverged(f"update {number}: the loss is not finite: {values}; {WAY_OUT}")
        norm = self.layout.clip(self.settings.clip_norm)
        if not math.isfinite(norm):
            raise Diverged(f"update {number}: the gradient is not finite; {WAY_OUT}")
        norms = {"gradient_norm": norm, **self._sparse_norm(number)}
        rate = factor(progress, schedule=self.settings.schedule, warmup=self.settings.warmup)
        for group in self._groups():
            group["lr"] = group["initial_lr"] * rate
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return {**values, **norms, "learning_rate": self._groups()[0]["lr"], **update.facts}


def fit(
    model: nn.Module,
    source: Source,
    optimizers: Sequence[torch.optim.Optimizer],
    settings: FitSettings,
    *,
    folder: RunFolder | None = None,
    stateful: Mapping[str, checkpoint.Stateful] | None = None,
    evaluate: Callable[[int], Mapping[str, float]] | None = None,
    on_update: Callable[[Record], None] | None = None,
) -> FitResult:
    """Train `model` in place on the updates of `source` until a budget or the source ends; resumes from `folder`.

    model: its forward(micro_batch) gives the tensors that the terms read; what of it is spread over the processes
    (checkpoint.Spread) is saved and resumed with it. stateful: what else is checkpointed.
    evaluate: called with the update count, its numbers are logged. on_update: sees every record (progress bars).
    Ctrl-C or a kill loses the updates since the last checkpoint, which a resumed run repeats: with an update budget it
    ends with the very same weights; with a time budget the learning rate follows the clock, only the data order stays.
    Raises FolderBusy, before anything is written, where another run writes to the folder.
    """
    run = _Run(model, optimizers, settings)
    with one_writer(folder.path) if folder and run.accelerator.is_main_process else nullcontext():
        return _fit(run, source, folder, stateful or {}, evaluate, on_update)


def _fit(
    run: _Run,
    source: Source,
    folder: RunFolder | None,
    stateful: Mapping[str, checkpoint.Stateful],
    evaluate: Callable[[int], Mapping[str, float]] | None,
    on_update: Callable[[Record], None] | None,
) -> FitResult:
    """`fit` in a folder that nobody else writes to."""
    states = {"source": source, **stateful}
    states |= {f"optimizer{i}": run.layout.stateful(optimizer) for i, optimizer in enumerate(run.optimizers)}
    facts = _resumed(run, folder, states) or {"update": 0, "seconds": 0.0}
    if folder and run.accelerator.is_main_process:
        folder.keep_metrics(lambda record: record.get("update", 0) <= facts["update"])
    logs = run_logs(folder if run.accelerator.is_main_process else None, run.settings.tensorboard)
    loop = _Loop(run, source, run.settings, logs, facts, lambda facts: _save(run, folder, states, facts))
    with logs:
        stopped_by, last = loop.run(evaluate, on_update)
    run.layout.finish()
    result = FitResult(loop.done, loop.seconds, stopped_by, run.precision, last)
    if folder and run.accelerator.is_main_process:
        folder.write("result.json", dumps(asdict(result), indent=2) + "\n")
        write_curves(folder)
    return result


def _resumed(run: _Run, folder: RunFolder | None, states: Mapping[str, checkpoint.Stateful]) -> Record | None:
    """The facts of the folder's checkpoint, which model and states go on from; None where there is none."""
    if folder is None:
        return None
    with run.layout.whole():
        facts = checkpoint.load(folder.path, run.bare, states)
        if facts is not None:
            run.layout.adopt()
    return facts


def _finite(weight: Tensor) -> bool:
    return bool(weight.isfinite().all())


def _broken(run: _Run, bare: nn.Module) -> list[str]:
    """What of the model is not finite; the same on all processes for what is spread over them."""
    spread = [name for name, module in run.spread.items() if not module.finite()]
    return spread + [name for name, weight in bare.named_parameters() if weight.requires_grad and not _finite(weight)]


def _save(run: _Run, folder: RunFolder | None, states: Mapping[str, Any], facts: Record) -> None:
    """A checkpoint in place of the last one. Diverged, and the last one stays, when a weight is not finite."""
    if folder is None or not (run.accelerator.is_main_process or run.together):
        return
    with run.layout.whole():
        if broken := _broken(run, run.bare):
            last = f"after update {facts['update']} weights such as {broken[0]} are not finite"
            raise Diverged(f"{folder.path}: the training diverged: {last}; {WAY_OUT}")
        if run.spread:
            facts = {**facts, checkpoint.SPREAD: run.agreed(checkpoint.new_spread_name(folder.path, facts["update"]))}
            checkpoint.save_spread(folder.path / facts[checkpoint.SPREAD], run.bare)
        collected = checkpoint.collect(run.bare, states, facts)
        if run.accelerator.is_main_process:
            checkpoint.save(folder.path, collected)
            checkpoint.remove_spread(folder.path, facts.get(checkpoint.SPREAD))


class _Loop:
    """Counting, stopping, logging and checkpointing around the steps of a run."""

    def __init__(
        self,
        run: _Run,
        source: Source,
        settings: FitSettings,
        logs: Logs,
        facts: Mapping[str, Any],
        save: Callable[[Record], None],
    ) -> None:
        self._run, self._source, self._settings, self._logs, self._save_facts = run, source, settings, logs, save
        self.done, self._before = int(facts["update"]), float(facts["seconds"])
        self._unlogged: Record | None = None
        self._started = self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        """Training seconds over all sittings."""
        return self._before + time.monotonic() - self._started

    def _budget_spent(self, seconds: float) -> str | None:
        if self._settings.updates is not None and self.done >= self._settings.updates:
            return "updates"
        if self._settings.seconds is not None and seconds >= self._settings.seconds:
            return "seconds"
        return None

    def save(self) -> None:
        """Checkpoint now."""
        self._save_facts({"update": self.done, "seconds": self.seconds})
        self._saved = time.monotonic()

    def _save_if_due(self) -> None:
        every = self._settings.checkpoint_updates
        by_count = every and self.done % every == 0
        if by_count or self._run.agreed(time.monotonic() - self._saved) >= self._settings.checkpoint_seconds:
            self.save()

    def run(
        self,
        evaluate: Callable[[int], Mapping[str, float]] | None,
        on_update: Callable[[Record], None] | None,
    ) -> tuple[str, Record]:
        """Step until something ends the run; returns what ended it and the last record, which is logged in any case."""
        record: Record = {}
        try:
            while (stopped_by := self._budget_spent(seconds := self._run.agreed(self.seconds))) is None:
                update = self._next()
                if update is None:
                    stopped_by = "source"
                    break
                record = self._step(update, seconds, evaluate)
                if on_update:
                    on_update(record)
                self._save_if_due()
        finally:
            self._log(self._unlogged)
        self.save()
        return stopped_by, record

    def _next(self) -> Update | None:
        reads = isinstance(self._source, ReadsModel) and self._source.reads_model(self.done)
        with self._run.layout.whole() if reads else nullcontext():
            return self._source.next(self.done)

    def _log(self, record: Record | None) -> None:
        """To every sink; None: nothing is left to log."""
        if record is not None:
            for log in self._logs.sinks:
                log(record)
        self._unlogged = None

    def _step(self, update: Update, seconds: float, evaluate: Callable[[int], Mapping[str, float]] | None) -> Record:
        settings = self._settings
        progress = run_progress(self.done, seconds, updates=settings.updates, budget=settings.seconds)
        start = time.perf_counter()
        values = self._run.step(update, self.done, progress)
        if TRAINED in values:
            values[f"{TRAINED}_per_second"] = values[TRAINED] / (time.perf_counter() - start)
        self.done += 1
        record = {"update": self.done, "seconds": round(self.seconds, 3), **values}
        due = bool(settings.evaluate_every) and self.done % settings.evaluate_every == 0
        if evaluate and due:
            with self._run.layout.whole():
                record |= evaluate(self.done)
        self._unlogged = record
        if due or self.done % settings.log_every == 0:
            self._log(record)
        return record
