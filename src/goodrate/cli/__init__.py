"""The command line: thin verbs, one file each. Heavy libraries are imported inside the verbs."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from goodrate.extras import MissingExtra

# verb -> (module, one line of help). The module is imported only when its verb runs, so --help stays fast.
VERBS = {
    "demo": ("goodrate.cli.demo", "Generate a shop, train on it, print a before/after table."),
    "shop": ("goodrate.cli.shop", "Write the embedded shop to a folder, or show examples of it."),
    "index": ("goodrate.cli.index", "Put a catalogue into a search index."),
    "search": ("goodrate.cli.search", "Search an index."),
    "synonyms": ("goodrate.cli.synonyms", "Propose synonyms from a catalogue."),
    "understand": ("goodrate.cli.understand", "Find typed entities in a catalogue's texts."),
    "film": ("goodrate.cli.film", "Make a clip of an item."),
    "inspect-film": ("goodrate.cli.inspect_film", "Have a reward model look at clips of products."),
    "judge": ("goodrate.cli.judge", "Say of query-item pairs how relevant they are, and why."),
    "fit-judge": ("goodrate.cli.fit_judge", "Fit a judge to labels, few or many, without training a model."),
    "next-labels": ("goodrate.cli.next_labels", "Pick the pairs whose labels would teach a judge most."),
    "grade": ("goodrate.cli.grade", "Have people grade pairs: make a queue, see how far it is, export."),
    "overrule": ("goodrate.cli.overrule", "Overrule what a judge says of entities, after a preview."),
    "teach": ("goodrate.cli.teach", "Write the reasons of labels, to train judges on."),
    "label": ("goodrate.cli.label", "Have a language model label query-item pairs."),
    "trim": ("goodrate.cli.trim", "Cut a language model's vocabulary to that of a shop."),
    "export": ("goodrate.cli.export", "Write an encoder or its judge for a faster runtime."),
    "train": ("goodrate.cli.train", "Train a base, a judge or a retriever."),
    "curves": ("goodrate.cli.curves", "Draw what training runs logged."),
    "evaluate": ("goodrate.cli.evaluate", "Measure systems against judgements."),
    "compare": ("goodrate.cli.compare", "Have people compare two systems side by side, or shoppers, unasked."),
    "events": ("goodrate.cli.events", "Make one table of impressions of a log of clicks."),
    "evaluate-policy": ("goodrate.cli.evaluate_policy", "Estimate what a policy would earn, from another one's log."),
    "monitor": ("goodrate.cli.monitor", "Follow the Goodrates of a search over time."),
    "agreement": ("goodrate.cli.agreement", "Measure how far raters agree."),
    "tune": ("goodrate.cli.tune", "Choose the weights of a search on judgements."),
    "warm": ("goodrate.cli.warm", "Judge the results of known queries in advance."),
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


def _tell_version(asked: bool) -> None:
    if asked:
        from goodrate import __version__

        print(f"goodrate {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_tell_version, is_eager=True, help="Show it and exit."),
) -> None:
    """Hold the verbs."""


def main() -> None:
    """Run the command line. Wrong input, full disks and missing extras exit 2 with one message, Ctrl-C exits 130."""
    try:
        app()
    except KeyboardInterrupt as stop:
        sys.exit(interrupted(stop))
    except SystemExit as ended:
        cause = getattr(ended.__context__, "__cause__", None)  # typer turns Ctrl-C into an exit with 130
        sys.exit(interrupted(cause) if isinstance(cause, KeyboardInterrupt) else ended.code)
    except Exception as error:
        told = refusal(error)
        if told is None:
            raise
        print(f"goodrate: {told}", file=sys.stderr)
        sys.exit(2)


def interrupted(stop: KeyboardInterrupt) -> int:
    """Say in one line that it was interrupted, with what the verb says of going on; the exit code."""
    print(f"interrupted; {str(stop) or 'run the same command again'}", file=sys.stderr)
    return 130


def refusal(error: Exception) -> str | None:
    """What to tell of wrong input, files that cannot be read or written, missing extras; None for a fault of ours.

    >>> refusal(OSError(28, "No space left on device", "runs/judge"))
    'runs/judge: No space left on device'
    """
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, (ValueError, OSError, MissingExtra)):
        return str(error)
    # Lance and safetensors have exceptions of their own for a disk that is full.
    return "No space left on device; what was there before is whole" if "os error 28" in str(error) else None
