"""goodrate serve: search over HTTP, with a web page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from goodrate.api.serving import KEEP
from goodrate.cli.options import ContextEncoder, Contexts, Encoder, Facts, Judge, JudgeMs, Rules, Verdicts
from goodrate.cli.serve_options import (
    AllowHost,
    Cors,
    Host,
    Insecure,
    KeepVerdicts,
    Log,
    LogFormat,
    MaxBody,
    Otel,
    Port,
    TokenFile,
)
from goodrate.cli.terminal import console, report_warnings, verb_app
from goodrate.extras import require

if TYPE_CHECKING:
    from goodrate.api.index import Index

app = verb_app()

HELP = """Serve search over HTTP with a web page.

The page is at /, the API at /search, /judge, /explain, /rerank, /score, /v1/embeddings, /metrics and /healthz;
/openapi.json describes it.

Examples:

  goodrate serve shop-index

  goodrate serve shop-index --model runs/judge/judge --port 9000

  goodrate serve shop-index --model runs/judge/judge --judge-ms 200

  goodrate serve shop-index --host 0.0.0.0 --token-file tokens.txt --log-format json
"""


@app.command(help=HELP)
def serve(
    index: Annotated[Path, typer.Argument(help="The folder that goodrate index made.")],
    model: Judge = None,
    judge_ms: JudgeMs = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    encoder: Encoder = None,
    verdicts: Verdicts = None,
    keep_verdicts: KeepVerdicts = KEEP,
    facts: Facts = None,
    contexts: Contexts = None,
    context_encoder: ContextEncoder = None,
    rules: Rules = None,
    max_body: MaxBody = 8.0,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    allow_host: AllowHost = None,
    cors: Cors = None,
    log_format: Log = LogFormat.text,
    otel: Otel = False,
) -> None:
    """See HELP."""
    from goodrate.api.ranking import unknown_ids_warning
    from goodrate.api.serving import Limits, Parts, access, listen, observed, open_live, run, text_encoder, warm_up

    require("serve", "goodrate serve")
    allowed, tracer = access(host, token_file, insecure, allow_host or (), cors or ()), observed(log_format, otel)
    with listen(host, port) as listener:  # before the models are loaded: a taken port is said at once
        with console.status("loading"):
            opened, pipeline = open_live(
                index, model, encoder, verdicts, facts, contexts, context_encoder, rules, judge_ms, keep_verdicts
            )
            warm_up(opened)
        console.print(announcement(opened, host, listener.getsockname()[1], token_file is None), highlight=False)
        if warning := unknown_ids_warning(opened):
            console.print(escape(warning), highlight=False)
        if opened.judge:
            report_warnings(opened.judge)
        run(pipeline, listener, Parts(Limits(body=int(max_body * 1_000_000)), text_encoder(opened), allowed, tracer))


def announcement(index: Index, host: str, port: int, anybody: bool = True) -> str:
    """What is served and where, and a warning when others can reach it. anybody: no tokens are asked for."""
    from goodrate.api.serving import is_loopback

    address = f"[{host}]" if ":" in host else host
    judge = f"judge {index.judge.name}" if index.judge else "no judge"
    lines = [f"{len(index):,} items, {judge}, at http://{address}:{port} (Ctrl-C stops)"]
    if not is_loopback(host):
        lines.append(
            "others can reach this address and goodrate asks nobody who they are: put a proxy in front"
            if anybody
            else "others can reach this address; what is sent is not encrypted: put a proxy with TLS in front"
        )
    return escape("\n".join(lines))


command = typer.main.get_command(app)
