"""Overrule an entity judge's verdicts: what a file of overrides changes on judged pairs, and saving it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from goodrate.catalog.items import Catalog
    from goodrate.catalog.judgements import Judgements
    from goodrate.relevance.entity_judge import EntityJudge
    from goodrate.relevance.overrides import Overrides
    from goodrate.relevance.pairs import JudgedPair
    from goodrate.scale import RelevanceScale

LOG_FILE = "overrides.jsonl"
LEAST = 1e-6  # difference of expected gains from which on a pair has changed


@dataclass(frozen=True)
class Effect:
    """What overrides do to judged pairs, against the judge as it is saved.

    pairs: that were judged. changed: with another expected gain; better, worse: whose gain is nearer to or further from
    that of the gold label. fixed, broken: whose label was wrong and is right, or the reverse. overrides: how many.
    """

    pairs: int
    changed: int
    better: int
    worse: int
    fixed: int
    broken: int
    overrides: int

    def lines(self) -> list[str]:
        """In words."""
        return [
            f"{self.changed:,} of {self.pairs:,} judged pairs change",
            f"nearer to their label: {self.better:,}; further from it: {self.worse:,}",
            f"labels that become right: {self.fixed:,}; that become wrong: {self.broken:,}",
        ]


def overrule(
    judge: str | Path, overrides: str | Path, judgements: Judgements | None = None, items: Catalog | None = None,
    preview: bool = True,
) -> Effect | None:  # fmt: skip
    """What a TOML file of overrides changes on judged pairs; without `preview` it then holds for the judge.

    judge: a folder of kind "entity". The file replaces the overrides that the judge has. What is saved is logged in its
    overrides.jsonl. None where no judgements are given. Raises FileNotFoundError and ValueError naming what is wrong.
    """
    from goodrate.relevance.overrides import read_overrides

    rules = read_overrides(overrides)
    opened = _entity_judge(judge)
    if judgements is not None and judgements.scale.labels != opened.scale.labels:
        raise ValueError(f"the judge {judge} has scale {opened.scale.name}, the judgements {judgements.scale.name}")
    pairs = _judged_pairs(judgements, items) if judgements is not None and items is not None else []
    told = effect(opened, opened.overruled(rules), pairs) if pairs else None
    if not preview:
        _save(Path(judge), Path(overrides), rules, told)
    return told


def effect(before: EntityJudge, after: EntityJudge, pairs: Sequence[JudgedPair]) -> Effect:
    """What changes between two judges; pairs that either fails on are left out."""
    from goodrate.relevance.label_choice import chosen_labels
    from goodrate.relevance.pairs import gold_labels

    rows = [one.assess(pairs).probabilities for one in (before, after)]
    known = ~np.isnan(rows[0]).any(axis=1) & ~np.isnan(rows[1]).any(axis=1)
    gold = gold_labels(pairs)[known]
    gains = [before.scale.expected_gain(row[known]) for row in rows]
    right = [chosen_labels(row[known]) == gold for row in rows]
    target = before.scale.gain_array[gold] / before.scale.gains[-1]
    errors = [np.abs(gain - target) for gain in gains]
    changed = np.abs(gains[0] - gains[1]) > LEAST
    return Effect(
        pairs=int(known.sum()), changed=int(changed.sum()), better=int((changed & (errors[1] < errors[0])).sum()),
        worse=int((changed & (errors[1] > errors[0])).sum()), fixed=int((~right[0] & right[1]).sum()),
        broken=int((right[0] & ~right[1]).sum()), overrides=len(after.overrides.override),
    )  # fmt: skip


def scale_of(judge: str | Path) -> RelevanceScale:
    """The scale of a judge's labels, from its judge.json alone. Raises as read_judge_card."""
    from goodrate.relevance.judge_card import read_judge_card

    return read_judge_card(judge).relevance_scale


def _entity_judge(folder: str | Path) -> EntityJudge:
    """The judge of a folder. Raises ValueError for one of another kind."""
    from goodrate.relevance.entity_judge import Card, open_kind
    from goodrate.relevance.judge_card import read_judge_card

    card = read_judge_card(folder)
    if not isinstance(card, Card):
        raise ValueError(f"{folder} is a judge of kind {card.kind!r}; only one of kind 'entity' can be overruled")
    return open_kind(Path(folder), card)


def _judged_pairs(judgements: Judgements, items: Catalog) -> list[JudgedPair]:
    from goodrate.relevance.pairs import JudgedPair

    joined = judgements.join(items)
    rows: Mapping[str, Any] = {row["id"]: row for row in items.to_rows()}
    each = zip(joined.frame.select("query", "item_id").iter_rows(), joined.label_indices().tolist(), strict=True)
    return [JudgedPair(query, rows[item], label=label) for (query, item), label in each]


def _save(folder: Path, source: Path, rules: Overrides, told: Effect | None) -> None:
    """The file into the judge, and a line in its log: when, what, and what it changed."""
    from goodrate.relevance.entity_judge import OVERRIDES_FILE
    from goodrate.run_folder import write_atomic
    from goodrate.text_file import read_text

    content = read_text(source)
    log = folder / LOG_FILE
    line = {
        "saved": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "effect": asdict(told) if told else None,
        "overrides": [one.model_dump(exclude_none=True) for one in rules.override],
    }  # fmt: skip
    before = log.read_text(encoding="utf-8") if log.is_file() else ""
    write_atomic(log, before + json.dumps(line, ensure_ascii=False) + "\n")
    write_atomic(folder / OVERRIDES_FILE, content)
