"""goodrate compare: have people vote on two systems side by side, and say what they found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from goodrate.cli.serve_options import AllowHost, Host, Insecure, Port, TokenFile
from goodrate.cli.terminal import console, item_progress, require_file_name, require_folder, uncollected
from goodrate.strict_json import dumps

HELP = """Have people vote on two systems side by side, and say what they found.

goodrate compare A B makes a set (the word make may be left out); people vote on it in the page of goodrate compare
serve DIR or goodrate serve INDEX --workbench DIR; report says what they found.

Examples:

  goodrate compare shop-index,mode=lexical shop-index --queries queries.csv --out team

  goodrate compare serve team

  goodrate compare report team --export votes.csv

  goodrate compare interleaved team      # what clicks say, after goodrate serve --interleave
"""
MAKE = """Search for the queries in two systems and keep both lists for people to vote on, blinded.

A, the old one, and B, the new one, are each a TOML file or one line: the folder of an index and what differs from the
defaults. Keys: index, name, mode, judge, depth, judge_ms, rules (a file, or off), as_typed, group_by, encoder and
verdicts.

A query on which both lists are the same counts as Same and is asked of nobody. With --ask N people are asked about N of
the others, drawn by how much the lists differ; the report weighs them so that it speaks for all queries. Interrupt when
you like, the same command goes on.

Examples:

  goodrate compare shop-index,mode=lexical shop-index --queries queries.csv --out team

  goodrate compare old.toml new.toml --queries queries.csv --out team --ask 200 --name "new judge"
"""


class MakesUnlessNamed(TyperGroup):
    """goodrate compare A B is goodrate compare make A B."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments with the action in front."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["make", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=MakesUnlessNamed, help=HELP, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False,
    no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
SetName = Annotated[str | None, typer.Option(help="Of the set. Default: the only one.", show_default=False)]
Folder = Annotated[Path, typer.Argument(help="The folder of a workbench.", metavar="DIR")]


@app.callback()
def _root() -> None:
    """Hold the actions."""


@app.command(help=MAKE)
def make(
    a: Annotated[str, typer.Argument(help="The old system: a TOML file, or INDEX,key=value,...")],
    b: Annotated[str, typer.Argument(help="The new system.")],
    queries: Annotated[Path, typer.Option(help="A file with a column query.", metavar="FILE")],
    out: Annotated[Path, typer.Option(help="The folder of a workbench; made where there is none.", metavar="DIR")],
    name: Annotated[str | None, typer.Option(help="Of the set. Default: A against B.", show_default=False)] = None,
    k: Annotated[int, typer.Option("-k", "--k", min=1, max=50, help="Results of each list.")] = 10,
    ask: Annotated[int | None, typer.Option(min=1, help="Queries to ask about. Default: all that differ.")] = None,
    seed: Annotated[int, typer.Option(help="Of sides, of the order and of what is drawn.")] = 0,
) -> None:
    """See MAKE."""
    from goodrate.api.comparing import compare, query_texts

    require_folder("--out", out)
    texts = query_texts(queries)
    try:
        with uncollected(), item_progress("queries") as progress:
            made = compare(a, b, texts, out, name=name, k=k, seed=seed, ask=ask, progress=progress)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"{out} keeps what was searched for, the same command goes on") from stop
    console.print(escape(f"{made}\nvote: goodrate compare serve {out}"), highlight=False)


@app.command()
def serve(
    folder: Folder,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    allow_host: AllowHost = None,
) -> None:
    """Show the sets of a workbench to raters, without an index. Example: goodrate compare serve team"""
    from goodrate.api.comparing import comparison_names
    from goodrate.api.serving import Parts, access, listen, run_comparisons

    allowed = access(host, token_file, insecure, allow_host or ())
    names = comparison_names(folder)
    with listen(host, port) as listener:
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/compare/"
        console.print(escape(f"{', '.join(names)}, at {address} (Ctrl-C stops)"), highlight=False)
        run_comparisons(folder, listener, Parts(access=allowed))


@app.command()
def report(
    folder: Folder,
    name: SetName = None,
    export: Annotated[
        Path | None, typer.Option(help="Write every vote (.csv, .jsonl, .parquet).", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of intervals.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Say how much better people find B than A. Example: goodrate compare report team --export votes.csv"""
    from goodrate.api.comparing import comparison_report

    if export is not None:
        require_file_name("--export", export, (".csv", ".jsonl", ".parquet"))
    found = comparison_report(folder, name, seed)
    if as_json:
        sys.stdout.write(dumps(found.as_dict(), indent=2) + "\n")
    else:
        for line in [found.name, *found.lines()]:
            Console().print(escape(line), highlight=False, soft_wrap=True)
    if export is not None:
        console.print(escape(f"{found.export(export):,} votes in {export}"), highlight=False)


@app.command()
def interleaved(
    folder: Annotated[Path, typer.Argument(help="The workbench of goodrate serve --interleave.", metavar="DIR")],
    name: Annotated[
        str | None, typer.Option(help="Of system B, where the log has several.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of intervals.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Say which of two systems shoppers' clicks prefer, by the log of goodrate serve A --interleave B --workbench DIR.
    Example: goodrate compare interleaved team"""
    from goodrate.api.interleaving import interleaved_report

    found = interleaved_report(folder, name, seed)
    if as_json:
        sys.stdout.write(dumps(found.as_dict(), indent=2) + "\n")
    else:
        for line in found.lines():
            Console().print(escape(line), highlight=False, soft_wrap=True)


command = typer.main.get_command(app)
