"""The options of goodrate serve alone: who may ask, and what is written of it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from goodrate.cli.options import index_place


class LogFormat(StrEnum):
    """How the log is written."""

    text = "text"
    json = "json"


ServedIndex = Annotated[
    Path | None,
    typer.Argument(help="The folder that goodrate index made, or s3://BUCKET/PATH.", callback=index_place),
]
Candidates = Annotated[
    str | None,
    typer.Option(
        help="In place of INDEX: a search engine that finds, opensearch://HOST:PORT/NAME, also elasticsearch, solr, "
        "vespa, postgresql."
    ),
]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")]
KeepVerdicts = Annotated[
    int, typer.Option(min=1, help="How many verdicts the file holds; those that are unused for longest go.")
]
MaxBody = Annotated[float, typer.Option(min=0.001, help="Longest body that is read, in megabytes.")]
TokenFile = Annotated[
    Path | None, typer.Option(help="Who may ask: lines ROLE TOKEN [NAME], a role of search, judge, edit.")
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Answer anybody who reaches --host, without tokens.")]
Cors = Annotated[
    list[str] | None, typer.Option(help="Another site whose pages may ask, such as https://shop.example; repeatable.")
]
AllowHost = Annotated[
    list[str] | None, typer.Option(help="A name by which the server may be asked, beside its address; repeatable.")
]
Log = Annotated[LogFormat, typer.Option(help="json: a line for each request, with its id, and all else as JSON too.")]
Interleave = Annotated[
    str | None,
    typer.Option(
        metavar="B",
        help="Answer together with a second system by team draft and log clicks into --workbench: a TOML file, or "
        "INDEX,key=value,... (goodrate compare --help).",
        show_default=False,
    ),
]
Otel = Annotated[bool, typer.Option("--otel", help="Send traces to where OTEL_EXPORTER_OTLP_ENDPOINT says.")]
Clips = Annotated[
    Path | None,
    typer.Option(help="Folder of the clips that the catalogue's column clip names: the page plays them."),
]
OnlineWeights = Annotated[
    Path | None,
    typer.Option(
        help="Weights of channels that follow clicks on POST /clicks: a file of settings (TOML), made where it is "
        "missing, with log and state beside it.",
        show_default=False,
    ),
]
ClickEvents = Annotated[
    Path | None,
    typer.Option(help="A growing file of sessions, JSON lines, to learn from as well.", show_default=False),
]
LabelsOfPairs = Annotated[
    Path | None,
    typer.Option(
        "--judgements", help="Labels on which overrides of a judge of entities are previewed.", show_default=False
    ),
]
