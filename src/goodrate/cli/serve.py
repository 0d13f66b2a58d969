"""goodrate serve: search over HTTP, with a web page."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from goodrate.cli.context_input import require_contexts
from goodrate.extras import require

if TYPE_CHECKING:
    from goodrate.serving.pipeline import SearchPipeline

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

HELP = """Serve search over HTTP with a web page.

The page is at /, the API at /search, /judge, /explain, /v1/rerank and /healthz; /openapi.json describes it.

Examples:

  goodrate serve shop-index

  goodrate serve shop-index --model runs/judge/judge --port 9000
"""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@app.command(help=HELP)
def serve(
    index: Annotated[Path, typer.Argument(help="The folder that goodrate index made.")],
    model: Annotated[
        str | None, typer.Option(help="A judge's folder. Without one, results have no tiers.", show_default=False)
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    encoder: Annotated[
        str | None, typer.Option(help="Where the index's encoder lies, if it has moved.", show_default=False)
    ] = None,
    verdicts: Annotated[
        Path | None,
        typer.Option(help="File that keeps verdicts. Default: verdicts.sqlite in INDEX.", show_default=False),
    ] = None,
    facts: Annotated[
        Path | None,
        typer.Option(
            help="What the shop knows of names in queries. Default: facts.jsonl in INDEX, if any.", show_default=False
        ),
    ] = None,
    contexts: Annotated[
        str | None,
        typer.Option(
            help='Texts for a judge that reads some: a file (id, text), or "items". Default: contexts.jsonl in INDEX, '
            "if any.",
            show_default=False,
        ),
    ] = None,
    context_encoder: Annotated[
        str | None,
        typer.Option(
            help="Encoder to find texts with, best that of the judge's training; none = by words.", show_default=False
        ),
    ] = None,
) -> None:
    """See HELP."""
    require("serve", "goodrate serve")  # before the models are loaded
    from goodrate.serving.loading import load_pipeline

    if facts is not None and not facts.is_file():
        raise FileNotFoundError(f"--facts: no file {facts}")
    facts, verdicts = facts or index / "facts.jsonl", verdicts or index / "verdicts.sqlite"
    console = Console(stderr=True)
    with listen(host, port) as listener:  # before the models are loaded: a taken port is said at once
        with console.status("loading"):
            texts = contexts or _own_texts(index, model)
            require_contexts(texts, context_encoder)
            pipeline = load_pipeline(index, model, encoder, verdicts, facts, texts, context_encoder)
        console.print(announcement(pipeline, host, listener.getsockname()[1]), highlight=False)
        _run(pipeline, listener)


def _own_texts(index: Path, model: str | None) -> str | None:
    """The texts that lie beside the index, for a judge that reads texts."""
    from goodrate.relevance.judge_card import read_judge_card

    path = index / "contexts.jsonl"
    return str(path) if path.is_file() and model is not None and read_judge_card(model).contexts else None


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ValueError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host"
        ) from error


def announcement(pipeline: SearchPipeline, host: str, port: int) -> str:
    """What is served and where, and a warning when others can reach it."""
    shown = f"[{host}]" if ":" in host else host
    judge = f"judge {pipeline.judge.name}" if pipeline.judge else "no judge"
    lines = [f"{len(pipeline.store):,} items, {judge}, at http://{shown}:{port} (Ctrl-C stops)"]
    if host not in LOOPBACK:
        lines.append("others can reach this address and goodrate asks nobody who they are: put a proxy in front")
    return escape("\n".join(lines))


def _run(pipeline: SearchPipeline, listener: socket.socket) -> None:
    """Answer until Ctrl-C or SIGTERM; requests under way are finished."""
    import uvicorn

    from goodrate.relevance.rulebook import load_rulebook
    from goodrate.serving.http import create_app

    because = {rule.id: rule.because for rule in load_rulebook().rules}
    server = uvicorn.Server(uvicorn.Config(create_app(pipeline, because), log_level="warning"))
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("the server has stopped") from stop


command = typer.main.get_command(app)
