"""Weights of the channels of hybrid search that are learned from clicks while a server runs.

FILE            settings (TOML), written with the defaults where it is missing, never changed afterwards
FILE.log.jsonl  one line a session that was learned from, written before it is
FILE.state.json what the learner held after some session of the log, written whole

(with the ending of FILE left out.) The log says all: the state only saves reading it from its beginning.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from goodrate import strict_json
from goodrate.ranking.online.blocked import Doubling
from goodrate.ranking.online.click_loss import ClickLoss
from goodrate.ranking.online.meta import AdaptiveRegret, DynamicRegret
from goodrate.ranking.online.sets import Near, Simplex
from goodrate.ranking.online.state import Learner
from goodrate.retrieval.weighing import BASE, WEIGHED, factors_of, start_of
from goodrate.run_folder import write_atomic
from goodrate.serving.weights_log import WeightsLog
from goodrate.settings import load, to_toml

STATE_EVERY = 100  # sessions
DECIDING = ("channels", "learner", "most_moved", "gradient_bound", "sessions_per_step")  # what the learner is made of
log = logging.getLogger(__name__)
Channel = Literal["lexical", "dense", "rating", "price"]


class OnlineSettings(BaseModel):
    """How weights are learned."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    active: bool = True
    """false: searches are as without this file, and nothing is learned."""
    learning: bool = True
    """false: the weights stay as they are."""
    most_moved: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The share of the whole weight that may stand elsewhere than at the start."""
    position_exponent: Annotated[float, Field(ge=0, le=3)] = 1.0
    """A result at position r is looked at with chance r ^ -position_exponent."""
    most_importance: Annotated[float, Field(ge=1, le=1000)] = 10.0
    """A click counts at most so much more than one at the first position."""
    channels: tuple[Channel, ...] = WEIGHED  # type: ignore[assignment]
    """What is weighed: lexical and dense, and rating and price if they are named."""
    learner: Literal["adaptive", "dynamic"] = "adaptive"
    """adaptive: low regret on every interval; dynamic: against every path. See docs/online_weights.md."""
    sessions_per_step: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Sessions whose mean gradient is one round of the learner."""
    sharpness: Annotated[float, Field(gt=0, le=1000)] = 10.0
    """1 / the difference in score that counts as one."""
    gradient_bound: Annotated[float, Field(gt=0, le=1000)] = 0.6
    """Longer gradients of a round are shortened to this; smaller bounds mean longer steps."""

    @field_validator("channels")
    @classmethod
    def _is_whole(cls, channels: tuple[Channel, ...]) -> tuple[Channel, ...]:
        if len(set(channels)) < len(channels) or not set(BASE) <= set(channels):
            raise ValueError(f"expected {' and '.join(BASE)}, and no channel twice; found {', '.join(channels)}")
        return channels


class SavedState(BaseModel):
    """What FILE.state.json holds beside the settings."""

    model_config = ConfigDict(strict=True)

    sessions: Annotated[int, Field(ge=0)]
    steps: Annotated[int, Field(ge=0)]
    waiting: list[list[float]]
    events_read: Annotated[int, Field(ge=0)]
    log_bytes: Annotated[int, Field(ge=0)]
    learner: dict[str, Any]


@dataclass(frozen=True)
class ClickSession:
    """One page that somebody saw. shown: item ids, positions: their places from 1, clicked: those that were clicked."""

    query: str
    shown: tuple[str, ...]
    positions: tuple[int, ...]
    clicked: tuple[str, ...]
    where: str | None = None

    def __post_init__(self) -> None:
        """ValueError for a page that cannot be."""
        if len(set(self.shown)) < len(self.shown) or len(set(self.positions)) < len(self.positions):
            raise ValueError("shown: an item or a position occurs twice")
        if len(self.shown) != len(self.positions) or min(self.positions, default=1) < 1:
            raise ValueError("shown: expected a position from 1 for each item")
        if unknown := sorted(set(self.clicked) - set(self.shown)):
            raise ValueError(f"clicked: {unknown[0]!r} is not among the shown items")


class OnlineWeights:
    """Weights that are read by every search and moved by clicks. Safe from many threads; one process at a time."""

    def __init__(self, path: str | Path) -> None:
        """Open FILE, which is made where it is missing, and go on where its log ends.

        Raises ValueError for settings that are none, for a state of other settings, for a log with a gap, and when
        another process has it open; OSError when the state cannot be written.
        """
        self.path = Path(path)
        if not self.path.exists():
            write_atomic(self.path, to_toml(OnlineSettings()))
        self.settings = load(OnlineSettings, self.path)
        self.channels: tuple[str, ...] = self.settings.channels
        self.start = start_of(self.channels)
        self._loss = ClickLoss(
            self.settings.position_exponent, self.settings.most_importance, self.settings.sharpness
        )  # fmt: skip
        self._learner = self._new_learner()
        self._waiting: list[list[float]] = []  # gradients of the round that is not whole yet
        self.sessions, self.steps, self.events_read = 0, 0, 0
        self.frozen: str | None = None
        self._lock = threading.Lock()
        self._log = WeightsLog(self._beside(".log.jsonl"), self._beside(".lock"))
        try:
            self._restore()
        except BaseException:
            self._log.close()
            raise
        self._publish()

    def factors(self) -> Mapping[str, float] | None:
        """See retrieval.weighing.ChannelWeights."""
        return self._factors

    @property
    def weights(self) -> dict[str, float]:
        """Channel -> weight, summing to 1."""
        return dict(zip(self.channels, self._learner.play.tolist(), strict=True))

    def learn(
        self, session: ClickSession, ids: Sequence[str], features: np.ndarray, events_read: int | None = None
    ) -> bool:  # fmt: skip
        """Learn from a session; whether it was learned from. ids (K,), features (K, C): Searcher.features of its query.

        Nothing is learned without a click, from fewer than two shown items that the search finds, when learning is off,
        and while the log cannot be written (`frozen` says why, and every session tries anew). events_read: bytes of a
        file of events up to and with this one.
        """
        place = {item: at for at, item in enumerate(ids)}
        rows = [(place[item], at) for at, item in enumerate(session.shown) if item in place]
        if not (self.settings.active and self.settings.learning) or len(rows) < 2:
            return False
        of_shown = features[[row for row, _ in rows]][None]
        positions = np.array([[session.positions[at] for _, at in rows]])
        clicked = np.array([[session.shown[at] in session.clicked for _, at in rows]])
        with self._lock:
            play = self._learner.play
            gradient = self._loss.measured(of_shown, positions, clicked, play)[1][0]
            if not clicked.any() or not np.isfinite(gradient).all():
                return False
            line = {
                "session": self.sessions + 1, "step": self.steps, "time": datetime.now(UTC).isoformat(),
                "query": session.query, "clicked": sorted(positions[clicked].tolist()),
                "weights": dict(zip(self.channels, play.tolist(), strict=True)), "gradient": gradient.tolist(),
                "events_read": self.events_read if events_read is None else events_read,
            }  # fmt: skip
            try:
                self._log.append(line)
            except OSError as error:
                if self.frozen is None:
                    log.error("weights are frozen: %s cannot be written: %s", self._log.path, error)
                self.frozen = f"{self._log.path} cannot be written: {error.strerror or error}"
                return False
            self.frozen = None
            self._take(line)
            if self.sessions % STATE_EVERY == 0:
                self._save()
        return True

    def close(self) -> None:
        """Write the state and let others open the file."""
        with self._lock:
            self._save()
            self._log.close()

    def as_dict(self) -> dict[str, Any]:
        """What there is to know, as JSON."""
        start = dict(zip(self.channels, self.start.tolist(), strict=True))
        return {
            "weights": self.weights, "start": start, "sessions": self.sessions, "steps": self.steps,
            "active": self.settings.active, "learning": self.settings.learning, "frozen": self.frozen,
        }  # fmt: skip

    def _beside(self, ending: str) -> Path:
        return self.path.with_suffix(ending)

    def _new_learner(self) -> Learner:
        near = Near(Simplex(len(self.channels)), self.start, self.settings.most_moved)
        steep = self.settings.gradient_bound
        if self.settings.learner == "adaptive":
            return AdaptiveRegret(near, steep, start=self.start)
        return Doubling(
            lambda horizon, start: DynamicRegret(near, steep, horizon, start=self.start if start is None else start),
            first=256,
        )

    def _publish(self) -> None:
        """Let searches see the weights."""
        self._factors = factors_of(self.channels, self._learner.play) if self.settings.active else None

    def _take(self, line: Mapping[str, Any]) -> None:
        """Do what a line of the log says."""
        self._waiting.append(line["gradient"])
        self.sessions, self.events_read = line["session"], line["events_read"]
        if len(self._waiting) >= self.settings.sessions_per_step:
            self._learner.update(np.mean(self._waiting, axis=0))
            self._waiting, self.steps = [], self.steps + 1
            self._publish()

    def _save(self) -> None:
        """Write the state; the log holds the same, so a failure loses nothing."""
        try:
            write_atomic(self._beside(".state.json"), strict_json.dumps(self._state()) + "\n")
        except OSError as error:
            log.warning("the state of the weights is not written: %s", error)

    def _state(self) -> dict[str, Any]:
        return {
            "settings": self._deciding(), "sessions": self.sessions, "steps": self.steps, "waiting": self._waiting,
            "events_read": self.events_read, "log_bytes": self._log.size, "learner": self._learner.state_dict(),
        }  # fmt: skip

    def _deciding(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json", include=set(DECIDING))

    def _restore(self) -> None:
        """What the state and the rest of the log say."""
        path, log_bytes = self._beside(".state.json"), 0
        if path.is_file():
            held = strict_json.read_object(path)
            self._require_same(path, held.get("settings"))
            try:
                state = SavedState.model_validate(held)
                self._take_state(state)
            except (KeyError, TypeError, ValueError, IndexError) as error:
                said = " ".join(str(error).split())[:200]
                raise ValueError(f"{path}: not a state of online weights ({said}); {self._anew()}") from None
            log_bytes = state.log_bytes
        else:
            write_atomic(path, strict_json.dumps(self._state()) + "\n")
        for line in self._log.lines(log_bytes):
            if line["session"] <= self.sessions:
                continue
            if line["session"] != self.sessions + 1:
                raise ValueError(
                    f"{self._log.path}: session {line['session']} follows {self.sessions}; lines are missing: restore "
                    f"them, or {self._anew()}"
                )
            if not _is_gradient(line["gradient"], len(self.channels)):
                raise ValueError(
                    f"{self._log.path}: session {line['session']}: expected a gradient of {len(self.channels)} numbers,"
                    f" one for each of {', '.join(self.channels)}; {self._anew()}"
                )
            self._take(line)

    def _take_state(self, state: SavedState) -> None:
        """Hold what a state says. Raises what the learner does, and ValueError for numbers of other channels."""
        count = len(self.channels)
        if wrong := [one for one in state.waiting if not _is_gradient(one, count)]:
            raise ValueError(f"waiting: expected gradients of {count} numbers, found {wrong[0]}")
        self._learner.load_state_dict(state.learner)
        play = np.asarray(self._learner.play, dtype=np.float64)
        if play.shape != (count,) or not np.isfinite(play).all() or abs(play.sum() - 1) > 1e-6 or play.min() < -1e-9:
            raise ValueError(f"learner: expected {count} weights that sum to 1, found {play.tolist()}")
        self.sessions, self.steps, self._waiting = state.sessions, state.steps, state.waiting
        self.events_read = state.events_read

    def _require_same(self, path: Path, known: Any) -> None:
        """ValueError when the state was learned otherwise."""
        own = self._deciding()
        held = known if isinstance(known, dict) else {}
        if changed := [name for name in DECIDING if held.get(name) != own[name]]:
            name = changed[0]
            raise ValueError(
                f"{path} was learned with {name} {held.get(name)!r}, {self.path} says {own[name]!r}; set it back, or "
                f"{self._anew()}"
            )

    def _anew(self) -> str:
        return f"remove {self._beside('.state.json')} and {self._log.path} to begin anew"


def _is_gradient(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(
        isinstance(one, int | float) and math.isfinite(one) for one in value
    )  # fmt: skip
