"""Options that several verbs have, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from goodrate.api.reading import CATALOG_FORMATS
from goodrate.scale import LabelsBy, Merge


def index_place(path: Path | None) -> Path | None:
    """An index's folder as it was named, or where s3://BUCKET/PATH is mirrored."""
    if path is None or not str(path).startswith("s3:"):
        return path
    from goodrate.api.index_place import located

    return located(path)


Mode = Literal["hybrid", "lexical", "dense"]
CatalogFile = Annotated[Path | None, typer.Option(help="Items by item_id: a file.", show_default=False)]
CatalogFormat = Annotated[str | None, typer.Option(help=f"Of --catalog: {CATALOG_FORMATS}.", show_default=False)]
Format = Annotated[
    str | None, typer.Option(help=f"Of the catalogue: {CATALOG_FORMATS}; esci:us takes one locale.", show_default=False)
]
CatalogMap = Annotated[
    str | None, typer.Option(help="Our names for the columns of --catalog: id=sku,title=name.", show_default=False)
]
Decimal = Annotated[
    Literal["point", "comma"] | None,
    typer.Option(help="Of prices, where the column does not say: is 1.299 one or a thousand?", show_default=False),
]
Currency = Annotated[
    str | None, typer.Option(help="Of prices, where none is written: EUR, GBP, USD, ...", show_default=False)
]
Images = Annotated[
    Path | None,
    typer.Option(help="The items' pictures: paths of the column image, or files called like ids.", show_default=False),
]
ImageEncoder = Annotated[
    str | None,
    typer.Option(help="The vision model that encodes pictures: a folder or hub id.", show_default=False),
]
IndexFolder = Annotated[
    Path | None, typer.Option(help="Items by item_id: an index.", show_default=False, callback=index_place)
]
IndexArgument = Annotated[
    Path, typer.Argument(help="The folder that goodrate index made, or s3://BUCKET/PATH.", callback=index_place)
]
PairMap = Annotated[
    str | None, typer.Option(help="Our names for the columns of PAIRS: query=q,item_id=sku.", show_default=False)
]
Facts = Annotated[
    Path | None,
    typer.Option(
        help="What the shop knows of names in queries (facts.jsonl). Default: that of the index, if any.",
        show_default=False,
    ),
]
Contexts = Annotated[
    str | None,
    typer.Option(
        help='Texts for a judge that reads some: a file (id, text), or "items". Default: contexts.jsonl of the index, '
        "if any.",
        show_default=False,
    ),
]
ContextEncoder = Annotated[
    str | None,
    typer.Option(
        help="Encoder to find texts with, best that of the judge's training; none = by words.", show_default=False
    ),
]
Encoder = Annotated[str | None, typer.Option(help="Where the index's encoder lies, if it has moved.")]
LabelFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        "--judgements-format",
        help="trec, ltr, quepid, quepid_json, rre, srw, rank_eval, esci, wands, chorus. Default: told by the content.",
        show_default=False,
    ),
]
ColumnMap = Annotated[
    str | None, typer.Option(help="Our names for their columns: id=docid,title=name.", show_default=False)
]
LabelMap = Annotated[
    str | None, typer.Option(help="Our names for their columns: item_id=docid,label=rating.", show_default=False)
]
MergeRule = Annotated[
    Merge | None,
    typer.Option(
        help="How several labels of a pair become one. Default: median where the file names its raters.",
        show_default=False,
    ),
]
WhoseLabels = Annotated[
    LabelsBy,
    typer.Option(
        "--labels-by",
        help="Where raters called \"model:...\" labelled too: people's labels, the models', or any: a model's where no "
        "person labelled the pair.",
    ),
]
Queries = Annotated[
    str | None,
    typer.Option(
        help='Texts of query ids: a file (query_id, query; TREC topics). "ids": the ids are the texts.',
        show_default=False,
    ),
]
Raters = Annotated[
    str | None,
    typer.Option(help='Columns of one rater\'s labels each: a,b,c or "agent_*_rating".', show_default=False),
]
ScaleName = Annotated[
    str | None,
    typer.Option(
        help="four_level, esci, esci_swapped, wands, graded_0_3, binary, or your own TOML file. Default: the one "
        "that all labels are on.",
        show_default=False,
    ),
]
Rules = Annotated[
    Path | None,
    typer.Option(
        help="Ranking rules: pins, boosts, burials (ranking_rules.toml). Default: those of the index, if any.",
        show_default=False,
    ),
]
SkipBad = Annotated[int, typer.Option(min=0, help="Leave out up to N bad rows and list them.")]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="Work on a Ray cluster (HOST:PORT, ray://HOST:PORT, auto) or on processes here (local, local:4).",
        show_default=False,
    ),
]
Sync = Annotated[bool, typer.Option("--sync", help="Remove the items of the index that CATALOG lacks.")]
SyncLimit = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of the index that --sync may remove; 0.2 unless said.", show_default=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be added, changed and removed; write nothing.")]
Config = Annotated[Path | None, typer.Option(help="TOML file with settings.", show_default=False)]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting.", show_default=False)
]
Judge = Annotated[
    str | None, typer.Option(help="A judge's folder. Without one, results have no tiers.", show_default=False)
]
JudgeMs = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Milliseconds for verdicts: the best candidates that fit are judged. Default: all are.",
        show_default=False,
    ),
]
Ranker = Annotated[
    Path | None,
    typer.Option(help="A click ranker's folder: orders the results inside the tiers of --model.", show_default=False),
]
AcrossTiers = Annotated[
    bool,
    typer.Option("--across-tiers", help="Order by the ranker alone, what is Bad behind; needs no judge."),
]
Verdicts = Annotated[
    Path | None,
    typer.Option(help="File that keeps verdicts. Default: verdicts.sqlite in INDEX.", show_default=False),
]
People = Annotated[
    Path | None,
    typer.Option(
        "--workbench", help="Folder whose overrules, people's verdicts, count in the judge's place.", show_default=False
    ),
]
Workbench = Annotated[
    Path | None,
    typer.Option(
        help="Folder for what people say of the search (workbench.sqlite): its pages are then there.",
        show_default=False,
    ),
]
