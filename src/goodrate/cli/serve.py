"""goodrate serve: search over HTTP, with a web page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from goodrate.api.serving import KEEP
from goodrate.cli.options import ContextEncoder, Contexts, Encoder, Facts, Judge, JudgeMs, Rules, Verdicts
from goodrate.cli.terminal import console, report_warnings, verb_app
from goodrate.extras import require

if TYPE_CHECKING:
    from goodrate.api.index import Index

app = verb_app()

HELP = """Serve search over HTTP with a web page.

The page is at /, the API at /search, /judge, /explain, /v1/rerank and /healthz; /openapi.json describes it.

Examples:

  goodrate serve shop-index

  goodrate serve shop-index --model runs/judge/judge --port 9000

  goodrate serve shop-index --model runs/judge/judge --judge-ms 200

  goodrate serve shop-index --online-weights weights.toml --click-events clicks.jsonl
"""


@app.command(help=HELP)
def serve(
    index: Annotated[Path, typer.Argument(help="The folder that goodrate index made.")],
    model: Judge = None,
    judge_ms: JudgeMs = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    encoder: Encoder = None,
    verdicts: Verdicts = None,
    keep_verdicts: Annotated[
        int, typer.Option(min=1, help="How many verdicts the file holds; those that are unused for longest go.")
    ] = KEEP,
    facts: Facts = None,
    contexts: Contexts = None,
    context_encoder: ContextEncoder = None,
    rules: Rules = None,
    online_weights: Annotated[
        Path | None,
        typer.Option(
            help="Weights of channels that follow clicks on POST /clicks: a file of settings (TOML), made where it is "
            "missing, with log and state beside it.",
            show_default=False,
        ),
    ] = None,
    click_events: Annotated[
        Path | None,
        typer.Option(help="A growing file of sessions, JSON lines, to learn from as well.", show_default=False),
    ] = None,
    max_body: Annotated[float, typer.Option(min=0.001, help="Longest body that is read, in megabytes.")] = 8.0,
) -> None:
    """See HELP."""
    from goodrate.api.ranking import unknown_ids_warning
    from goodrate.api.serving import Limits, follow_clicks, listen, open_live, run, warm_up

    require("serve", "goodrate serve")
    if click_events and not online_weights:
        raise ValueError(f"--click-events {click_events} is for weights that follow clicks: --online-weights FILE")
    with listen(host, port) as listener:  # before the models are loaded: a taken port is said at once
        with console.status("loading"):
            opened, pipeline = open_live(
                index, model, encoder, verdicts, facts, contexts, context_encoder, rules, judge_ms, keep_verdicts,
                online_weights,
            )  # fmt: skip
            warm_up(opened)
        console.print(announcement(opened, host, listener.getsockname()[1]), highlight=False)
        if warning := unknown_ids_warning(opened):
            console.print(escape(warning), highlight=False)
        if opened.judge:
            report_warnings(opened.judge)
        if click_events:
            follow_clicks(pipeline, click_events)
        run(pipeline, listener, Limits(body=int(max_body * 1_000_000)))


def announcement(index: Index, host: str, port: int) -> str:
    """What is served and where, and a warning when others can reach it."""
    from goodrate.api.serving import LOOPBACK

    address = f"[{host}]" if ":" in host else host
    judge = f"judge {index.judge.name}" if index.judge else "no judge"
    lines = [f"{len(index):,} items, {judge}, at http://{address}:{port} (Ctrl-C stops)"]
    if host not in LOOPBACK:
        lines.append("others can reach this address and goodrate asks nobody who they are: put a proxy in front")
    return escape("\n".join(lines))


command = typer.main.get_command(app)
