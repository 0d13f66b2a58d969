"""Speed of goodrate beside a peer in the same run; results as JSON in benchmarks/results/speed.

python benchmarks/speed.py all       everything, about ten minutes on a quiet machine
python benchmarks/speed.py store --sizes 1000,10000
python benchmarks/speed_table.py     the tables of docs/speed.md from the JSON
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False, help=__doc__)
Rounds = Annotated[int, typer.Option(min=1, help="How often every arm is timed.")]
Threads = Annotated[int, typer.Option(min=1, help="Of torch.")]


@app.command("help")
def help_(rounds: Rounds = 15) -> None:
    """goodrate --help."""
    from speed_start import measure_help

    print(measure_help(rounds))


@app.command()
def search(rounds: Rounds = 7) -> None:
    """goodrate search in a new process."""
    from speed_start import measure_search

    print(measure_search(rounds))


@app.command()
def judge(rounds: Rounds = 5, threads: Threads = 1) -> None:
    """100 items of one query, with and without a shared prefix."""
    from speed_judge import measure_judge

    print(measure_judge(rounds, threads))


@app.command()
def encode(rounds: Rounds = 5, threads: Threads = 1) -> None:
    """Item texts through MiniLM."""
    import transformers

    from speed_encode import measure_encode

    logger: Any = transformers.utils.logging
    logger.set_verbosity_error()  # its report on unused pooler weights reads like a fault
    logger.disable_progress_bar()
    print(measure_encode(rounds, threads))


@app.command()
def store(
    sizes: Annotated[str, typer.Option(help="Items, separated by commas.")] = "1000,10000,100000",
    repeats: Annotated[int, typer.Option(min=1, help="Indexes made and searched per size.")] = 3,
) -> None:
    """Index and search generated items."""
    from speed_store import measure_store

    for size in sizes.split(","):
        print(measure_store(int(size), repeats))


@app.command("all")
def everything() -> None:
    """All of the above with their own settings."""
    help_()
    search()
    judge()
    encode()
    store()


if __name__ == "__main__":
    app()
