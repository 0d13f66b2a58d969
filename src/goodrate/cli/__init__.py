"""The command line: thin verbs, one file each. Heavy libraries are imported inside the verbs."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

# verb -> (module, one line of help). The module is imported only when its verb runs, so --help stays fast.
VERBS = {
    "demo": ("goodrate.cli.demo", "Generate a shop, train on it, print a before/after table."),
    "shop": ("goodrate.cli.shop", "Write the embedded shop to a folder, or show examples of it."),
    "index": ("goodrate.cli.index", "Put a catalogue into a search index."),
    "search": ("goodrate.cli.search", "Search an index."),
    "judge": ("goodrate.cli.judge", "Say of query-item pairs how relevant they are, and why."),
    "train": ("goodrate.cli.train", "Train a base, a judge or a retriever."),
    "evaluate": ("goodrate.cli.evaluate", "Measure systems against judgements."),
    "serve": ("goodrate.cli.serve", "Serve search over HTTP with a web page."),
}


class LazyVerb(TyperCommand):
    """A verb by name and help line; its module is imported when the verb is called, never to list it."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Hand over to the verb's own command, whose context then carries it."""
        assert self.name is not None
        command = importlib.import_module(VERBS[self.name][0]).command
        return command.make_context(info_name, args, parent=parent, **extra)


class LazyVerbs(TyperGroup):
    """A command group that knows its verbs by name, so that help and "did you mean" import none of them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = {name: LazyVerb(name, help=line) for name, (_, line) in VERBS.items()}


app = typer.Typer(
    cls=LazyVerbs,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Relevant product search, trained by reinforcement learning.",
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    """Hold the verbs."""


def main() -> None:
    """Run the command line. Wrong input exits 2 with one clear message, Ctrl-C exits 130."""
    try:
        app()
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume", file=sys.stderr)
        sys.exit(130)
    except (ValueError, FileNotFoundError) as error:
        print(f"goodrate: {error}", file=sys.stderr)
        sys.exit(2)
