"""goodrate search: search an index from the terminal."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from goodrate.cli.options import (
    AcrossTiers,
    Encoder,
    ImageEncoder,
    IndexArgument,
    Judge,
    JudgeMs,
    Mode,
    People,
    Ranker,
    Rules,
    Verdicts,
)
from goodrate.cli.picture_index import refuse_others, search_by_image
from goodrate.cli.terminal import console as status_console
from goodrate.cli.terminal import print_table, uncollected, verb_app
from goodrate.strict_json import dumps

if TYPE_CHECKING:
    from goodrate.api.index import Facets, Index, Result, SearchResponse

app = verb_app()

# Channel -> the heading of its ranks.
CHANNELS = {"identifier": "code", "lexical": "words", "synonym": "synonyms", "dense": "meaning"}
COLUMNS = ("brand", "category", "price", "rating")  # shown when any result has one
# the same, behind the id
EXTRA = {"tier": "tier", "set_by": "set by", "utility": "utility", "variant_count": "variants", "rules": "rules"}
TITLE_CHARS = 120  # marketplaces have titles of 500

GroupBy = Annotated[
    str | None,
    typer.Option(
        help="One result for all variants: parent_id, title, ..., none. Default: the index's.", show_default=False
    ),
]
Where = Annotated[
    str | None,
    typer.Option(
        help="A condition on id, title, brand, category, price, rating, currency, parent_id, attributes.NAME.",
        show_default=False,
    ),
]
SearchMode = Annotated[
    Mode | None, typer.Option(help="Default: hybrid, or lexical when the index has no vectors.", show_default=False)
]
AsTyped = Annotated[bool, typer.Option("--as-typed", help='Take "without X" and "under 50 euro" as plain words.')]
Depth = Annotated[int, typer.Option(min=1, help="How many of the retrieved items the judge of --model sees.")]
AllFacets = Annotated[
    bool, typer.Option("--facets", help="Count brands, categories, prices and attributes of what matches.")
]
Disjunctive = Annotated[
    bool, typer.Option("--disjunctive", help="Count each facet without what --where asks of its own field.")
]
Picture = Annotated[Path | None, typer.Option(help="Search by this picture, without a query.", show_default=False)]
Facet = Annotated[
    list[str] | None,
    typer.Option(help="Count this: brand, category, price, rating, attributes.NAME.", show_default=False),
]

HELP = """Search an index by words, by meaning, or by both.

Examples:

  goodrate search shop-index "usb c cable 2m"

  goodrate search shop-index "desk lamp" --where "price < 50 AND brand = 'Anker'"

  goodrate search shop-index "laptop" --where "attributes.color IN ('red', 'blue')" --facets

  goodrate search shop-index "laptop" --where "brand IN ('HP', 'Dell')" --facet brand --disjunctive

  goodrate search shop-index "monitor" --facet brand --facet attributes.resolution

  goodrate search shop-index "laptop sleeve" -k 50 --mode lexical --json

  goodrate search shop-index "desk lamp" --group-by parent_id --sort price

  goodrate search shop-index --image photo.jpg --where "price < 50"

  goodrate search shop-index "desk lamp" --rules ranking_rules.toml --offset 10

  goodrate search shop-index "desk lamp" --model runs/judge/judge --judge-ms 200

  goodrate search shop-index "desk lamp" --model runs/judge/judge --workbench team

  goodrate search shop-index "desk lamp" --model runs/judge/judge --ranker runs/clicks/ranker
"""


@app.command(help=HELP)
def search(
    context: typer.Context,
    index: IndexArgument,
    query: Annotated[str | None, typer.Argument(help="What a shopper would type.", show_default=False)] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, max=1_000_000, help="How many results.")] = 10,
    where: Where = None,
    mode: SearchMode = None,
    sort: Annotated[
        str, typer.Option(help="price, -price (falling), -rating or attributes.NAME, of what is relevant.")
    ] = "relevance",
    group_by: GroupBy = None,
    offset: Annotated[int, typer.Option(min=0, help="Leave out so many results before the first.")] = 0,
    rules: Rules = None,
    no_rules: Annotated[bool, typer.Option("--no-rules", help="Heed no ranking rules.")] = False,
    facets: AllFacets = False,
    facet: Facet = None,
    disjunctive: Disjunctive = False,
    encoder: Encoder = None,
    model: Judge = None,
    depth: Depth = 50,
    judge_ms: JudgeMs = None,
    verdicts: Verdicts = None,
    workbench: People = None,
    ranker: Ranker = None,
    across_tiers: AcrossTiers = False,
    image: Picture = None,
    image_encoder: ImageEncoder = None,
    as_typed: AsTyped = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """See HELP."""
    if image is not None:
        refuse_others(context)
        search_by_image(index, image, k, where, image_encoder, as_json)
        return
    if query is None:
        raise ValueError("give a QUERY, or --image FILE to search by a picture")
    if disjunctive and not (facets or facet):
        raise ValueError("--disjunctive says how facets are counted; give --facets or --facet NAME with it")
    if rules is not None and no_rules:
        raise ValueError("--rules FILE and --no-rules exclude each other")
    judging = {"model": model, "verdicts": verdicts, "judge_ms": judge_ms, "workbench": workbench}
    ordering = {"rules": rules, "as_typed": as_typed, "depth": depth}
    opened = _opened(index, encoder, mode == "lexical", ordering, judging, ranker, across_tiers)
    if not no_rules:
        _warn(opened)
    start = time.perf_counter()
    response = opened.search(
        query, k, where, mode, facets=[*(["auto"] if facets else []), *(facet or [])], offset=offset, sort=sort,
        group_by=group_by, with_rules=not no_rules, disjunctive=disjunctive,
    )  # fmt: skip
    milliseconds = (time.perf_counter() - start) * 1000
    rows = [_result(result) for result in response]
    if as_json:
        sys.stdout.write(dumps(_document(query, where, response, rows, milliseconds), indent=2) + "\n")
    else:
        _print(query, rows, _summary(response, rows, len(opened), milliseconds))
        if response.facets is not None:
            _print_facets(response.facets)


def _opened(
    path: Path, encoder: str | None, words_only: bool, ordering: dict[str, Any], judging: dict[str, Any],
    ranker: Path | None, across_tiers: bool,
) -> Index:  # fmt: skip
    """The index with what orders its results: rules, ranker, judge. ValueError for a judge's option without one."""
    from goodrate.api.index import Index
    from goodrate.api.overruling import people_of
    from goodrate.api.ranker import ranker_choice
    from goodrate.api.serving import with_judge

    if judging["model"] is None and any(value is not None for value in judging.values()):
        raise ValueError("--judge-ms, --verdicts and --workbench are for a judge, and there is none: --model JUDGE")
    workbench = judging.pop("workbench")
    chosen = ranker_choice(ranker, across_tiers)
    with uncollected(), status_console.status("loading"):
        opened = Index.open(path, encoder, words_only=words_only).but(**ordering, ranker=chosen)
        opened = opened.but(overrules=people_of(workbench)) if workbench else opened
        return with_judge(opened, depth=ordering["depth"], **judging) if judging["model"] is not None else opened


def _warn(index: Index) -> None:
    """Say which items of the ranking rules are not there."""
    from goodrate.api.ranking import unknown_ids_warning

    if warning := unknown_ids_warning(index):
        status_console.print(escape(warning), highlight=False)


def _document(
    query: str, where: str | None, response: SearchResponse, rows: list[dict[str, Any]], milliseconds: float
) -> dict[str, Any]:
    """The answer of --json."""
    read = [{"kind": span.kind, "text": span.text} for span in response.spans]
    meant = {"text": response.correction.text, "used": response.corrected} if response.correction else None
    asked = {"offset": response.request.offset, "sort": response.request.sort, "group_by": response.request.group_by}
    return {
        "query": query, "where": where, **asked, "read": read, "correction": meant, "rules": list(response.rules),
        "more": response.more, "milliseconds": round(milliseconds, 1), **_judging(response), "results": rows,
        **(asdict(response.facets) if response.facets is not None else {}),
    }  # fmt: skip


def _judging(response: SearchResponse) -> dict[str, Any]:
    """How many items have verdicts and where from; nothing without a judge."""
    counts = {name: getattr(response, name) for name in ("judged", "failed", "cached", "live", "left")}
    return counts if any(counts.values()) else {}


def _summary(response: SearchResponse, rows: list[dict[str, Any]], items: int, milliseconds: float) -> str:
    """What stands below the table."""
    said = [f"{len(rows)} of {items:,} items in {milliseconds:.0f} ms"]
    if response.correction:
        how = "searched for" if response.corrected else "did you mean"
        said.append(f"{how}: {response.correction.text}{'' if response.corrected else '?'}")
    said += [f"read as a condition: {span.text}" for span in response.spans]
    if _judging(response):
        said.append(f"{response.judged} judged ({response.cached} stored, {response.live} now)")
    if people := sum("set_by" in row for row in rows):
        said.append(f"{people} of them by a person")
    if response.failed:
        said.append(f"{response.failed} without a verdict")
    if response.left:
        said.append(f"{response.left} left when the time was over")
    if response.rules:
        said.append(f"rules: {', '.join(response.rules)}")
    if response.request.group_by:
        said.append(f"grouped by {response.request.group_by}")
    return "; ".join(said)


def _result(result: Result) -> dict[str, Any]:
    """One result as JSON: its rank, score, item and what each channel said."""
    channels = {
        name: {"rank": part["rank"], "score": round(part["score"], 6), "share": round(part["share"], 4)}
        for name, part in result.channels.items()
    }
    of_search = {"rank": result.rank, "score": round(result.score, 6), "excluded": result.excluded}
    verdict = result.verdict
    judged = {} if verdict is None else {"tier": verdict.tier, "label": verdict.label, "gain": verdict.expected_gain}
    judged |= {"set_by": verdict.overrule["by"]} if verdict is not None and verdict.overrule else {}
    judged |= {} if result.utility is None else {"utility": round(result.utility, 6)}
    variants = {"variants": [asdict(variant) for variant in result.variants], "variant_count": result.variant_count}
    return {**of_search, **result.item, "channels": channels, "rules": list(result.rules), **judged, **variants}


def _print(query: str, rows: list[dict[str, Any]], summary: str) -> None:
    """The results as a table; columns that would be empty are left out."""
    console = Console()
    if not rows:
        console.print(f"nothing found for [bold]{escape(query)}[/bold] ({summary})", highlight=False)
        return
    shown = [name for name in COLUMNS if any(row[name] not in ("", None) for row in rows)]
    extra = [name for name in EXTRA if any(row.get(name) for row in rows)]
    channels = [name for name in CHANNELS if any(name in row["channels"] for row in rows)]
    table = Table(title=escape(query), title_style="bold", caption=summary, box=None)
    table.title_justify = table.caption_justify = "left"
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    table.add_column("title", min_width=24)
    for name in shown:
        table.add_column(name, justify="right" if name in ("price", "rating") else "left", no_wrap=True, max_width=16)
    table.add_column("id", style="dim", no_wrap=True)
    for name in extra:
        table.add_column(EXTRA[name], no_wrap=True, max_width=24)
    for name in channels:
        table.add_column(CHANNELS[name], justify="right", style="cyan", no_wrap=True)
    for row in rows:
        values = [_shown(row, name) for name in shown]
        ranks = [f"#{row['channels'][name]['rank']}" if name in row["channels"] else "-" for name in channels]
        more = [escape(_extra(row.get(name))) for name in extra]
        table.add_row(str(row["rank"]), escape(_cut(row["title"])), *values, escape(row["id"]), *more, *ranks)
    print_table(table)


def _extra(value: list[str] | int | float | str | None) -> str:
    """How many variants a result has, the names of its ranking rules, its tier, or what the ranker predicts."""
    if isinstance(value, float):
        return f"{value:.3f}"
    if value is None or isinstance(value, str):
        return value or ""
    return ", ".join(value) if isinstance(value, list) else f"+{value}" if value else ""


def _print_facets(counts: Facets) -> None:
    """A line for each facet: its label, and the values with their counts."""
    among = "items" if counts.complete else "best items"
    table = Table(box=None, show_header=False, caption=f"counted over {counts.counted:,} {among}", padding=(0, 2, 0, 0))
    table.caption_justify = "left"
    table.add_column(style="bold", no_wrap=True, max_width=20)
    table.add_column()
    for facet in counts.facets:
        values = [f"{escape(_value(value))} [cyan]{value['count']:,}[/cyan]" for value in facet["values"]]
        more = [f"[dim]and {facet['others']:,} others[/dim]"] if facet["others"] else []
        table.add_row(escape(facet["label"]), ", ".join([*values, *more]) or "[dim]none[/dim]")
    print_table(table)


def _value(value: dict[str, Any]) -> str:
    """The value of a facet, or its range."""
    return f"{value['from']:,} to {value['to']:,}" if "from" in value else str(value.get("path", value["value"]))


def _cut(title: str) -> str:
    """A title that fits in two or three lines."""
    return title if len(title) <= TITLE_CHARS else title[: TITLE_CHARS - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def _shown(row: dict[str, Any], name: str) -> str:
    """A value for the table, a price with its currency."""
    value = row[name]
    if value is None:
        return ""
    if name == "price":
        return f"{value:,.2f} {row['currency']}".rstrip()
    return f"{value:.1f}" if name == "rating" else escape(str(value))


command = typer.main.get_command(app)
