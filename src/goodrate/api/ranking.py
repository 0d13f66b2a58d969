"""The shop's ranking rules and how its results are grouped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goodrate.api.index import Index
    from goodrate.ranking.rule_file import RankingRules
    from goodrate.retrieval.store import Store


def read_ranking_rules(path: str | Path) -> RankingRules:
    """Pins, boosts and burials of a TOML file (docs/ranking_rules.md).

    Raises FileNotFoundError, or ValueError with the file, the rule, its key and what was expected.
    """
    from goodrate.ranking.rule_file import RankingRules

    return RankingRules.read(path)


def rules_of(store: Store, given: RankingRules | str | Path | None, own: Path) -> RankingRules:
    """The rules that were given, as such or as a file, else those of the index's own file, else none.

    Raises ValueError, as read_ranking_rules and for a filter that the index does not know.
    """
    from goodrate.ranking.rule_file import RankingRules

    if given is None and not own.is_file():
        return RankingRules()
    rules = given if isinstance(given, RankingRules) else RankingRules.read(given or own)
    check_filters(store, rules, "ranking rules" if isinstance(given, RankingRules) else str(given or own))
    return rules


def check_filters(store: Store, rules: RankingRules, source: str) -> None:
    """ValueError with the source and the rule for a filter that an index does not know."""
    rules.check_filters(lambda where: store.matching((), where), source)


def unknown_ids_warning(index: Index) -> str | None:
    """What to say of ids in an index's ranking rules that it does not hold; None when it holds all."""
    ids = index.rules.ids()
    there = index.store.matching(ids, None) if ids else set()
    unknown = [item for item in ids if item not in there]
    if not unknown:
        return None
    return f"ranking rules: {len(unknown):,} of {len(ids):,} ids are not in {index.store.path}, such as {unknown[0]!r}"


def write_grouping(store: Store, name: str) -> None:
    """Write into an index how results are grouped unless a search says otherwise. Raises ValueError."""
    from goodrate.ranking.variants import UNGROUPED, check_group_by
    from goodrate.retrieval.turns import writing_turn

    check_group_by(name)
    grouping = None if name == UNGROUPED else name
    if grouping == store.manifest.group_by:
        return
    with writing_turn(store.path):
        store.manifest.model_copy(update={"group_by": grouping}).write(store.path)
    store.reload()
