"""The commands of docs/grading.md and docs/monitoring.md on the embedded shop, their output, and pictures of the pages.

python benchmarks/grading_walk.py    benchmarks/results/grading_walk.md, docs/pictures/grading_*.png and monitor_*.png

The judge is the shop's own truth (kind human), so it is never unsure. The two raters are simulated: each marks the
columns that the shop knows to be right, and in one pair of six those of another pair. Pictures need Chromium.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import typer
from click.testing import CliRunner

import goodrate as gr
from goodrate.api.index import Index
from goodrate.relevance.human_judge import write_human_judge
from goodrate.run_folder import write_atomic
from goodrate.serving.workbench.grading import LABEL, Grading, Vote
from goodrate.serving.workbench.store import Workbench
from goodrate.shop.truth import rule_columns
from lib.queue import RESULTS

ITEMS, QUERIES, ASKED, GRADED = 600, 120, 25, 8
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def walk() -> None:
    """Run the commands in a new folder and write what they say."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        shop = gr.generate_shop(seed=5, items=ITEMS, queries=QUERIES)
        os.chdir(folder)
        prepare(shop, folder)
        parts = [*monitoring(shop, folder), *grading(shop, folder)]
        write_atomic(RESULTS / "grading_walk.md", head() + "\n".join(parts))
        pictures(folder)


def head() -> str:
    """What stands above the commands."""
    return (
        f"Written by benchmarks/grading_walk.py: the embedded shop (seed 5, {ITEMS:,} items), the first {ASKED} of its "
        "queries, its truth as the judge, two simulated raters, who in one pair of six mark what is right for another "
        "pair.\n\n"
    )


def said(command: str) -> str:
    """A command as it is typed, and what it says, as a block of Markdown."""
    import goodrate.cli

    done = CliRunner(env={"COLUMNS": "110"}).invoke(typer.main.get_command(goodrate.cli.app), shlex.split(command))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    lines = [line.rstrip() for line in done.output.strip().splitlines() if not line.startswith("queries: ")]
    ended = [f"$ echo $?\n{done.exit_code}"] if done.exit_code else []
    return "\n".join(["```", f"$ goodrate {command}", *lines, *ended, "```", ""])


def prepare(shop: Any, folder: Path) -> None:
    """The index, the queries and the judge."""
    Index.create(folder / "shop-index", shop.catalog)
    asked = shop.query_frame().head(ASKED).select("query")
    asked.write_csv(folder / "queries.csv")
    rows = [
        (shop.query_id(query), shop.queries[query].text, item, shop.book.scale.labels[label])
        for query in range(ASKED) for item, label in zip(shop.catalog.ids, shop.labels[query].tolist(), strict=True)
    ]  # fmt: skip
    truth = pl.DataFrame(rows, schema=["query_id", "query", "item_id", "label"], orient="row")
    write_human_judge(folder / "judge", gr.read_judgements(truth, shop.book.scale))


def monitoring(shop: Any, folder: Path) -> Iterator[str]:
    """Three runs; before the second and the third items go out of the index."""
    base = "monitor shop-index --queries queries.csv --model judge --out team/monitor"
    yield said(base)
    rng = random.Random(5)
    for share, more in ((0.02, "--last"), (0.15, "--last --fail-drop item_goodrate=0.01")):
        index = Index.open(folder / "shop-index")
        index.remove(rng.sample(index.items.ids, int(share * len(index))))
        yield said(f"{base} {more}")


def grading(shop: Any, folder: Path) -> Iterator[str]:
    """A queue, two raters, how they agree, and the export."""
    top = f"--queue top --queries queries.csv -k 5 -n {5 * GRADED}"
    yield said(f"grade make team --index shop-index {top} --rules shop --raters 2")
    clock = Days()
    marks = Grading(Workbench(folder / "team"), clock)
    right = [columns_of(shop, row["query"], row["item_id"]) for row in marks.pairs()]
    for rater, seed in (("Ada", 1), ("Bo", 2)):
        clock.begin()
        rng = random.Random(seed)
        for row, columns in zip(marks.pairs()[: -GRADED // 2], right, strict=False):
            said_columns = rng.choice(right) if rng.random() < 1 / 6 else columns
            rule = shop.book.rules[shop.book.table[codes(shop, said_columns)]]
            clock.go_on(rng.uniform(5, 30))
            marks.vote(Vote(row["place"], rater, LABEL, rule.label, said_columns, seconds=clock.took))
    yield said("grade status team")
    yield said("grade status team --pairs 12")
    yield said("grade export team --out labels.csv --resolved resolved.csv --reasons reasons.jsonl --index shop-index")
    yield said("agreement labels.csv --scale four_level")


class Days:
    """A clock of raters who grade twenty pairs a day."""

    def __init__(self) -> None:
        self.start, self.now, self.done, self.took = 1_772_442_000.0, 0.0, 0, 0.0

    def begin(self) -> None:
        """A rater's first day."""
        self.now, self.done = self.start, 0

    def go_on(self, seconds: float) -> None:
        """One pair further."""
        self.took, self.done = round(seconds, 1), self.done + 1
        self.now += seconds
        if self.done % 20 == 0:
            self.now = self.start + 86400 * (self.done // 20)

    def __call__(self) -> float:
        return self.now


def columns_of(shop: Any, query: str, item: str) -> dict[str, str]:
    """The columns that the shop knows to be right for a pair."""
    number = next(n for n, one in enumerate(shop.queries) if one.text == query)
    truth = shop.truth(number, np.asarray([shop.catalog.ids.index(item)]))
    columns = rule_columns(shop.queries[number], truth.relation, truth.checks)
    return {name: shop.book.columns[name][int(values[0])] for name, values in columns.items()}


def codes(shop: Any, columns: dict[str, str]) -> tuple[int, ...]:
    """The place in the rule book's table."""
    return tuple(values.index(columns[name]) for name, values in shop.book.columns.items())


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server with the workbench."""
    import uvicorn

    from goodrate.serving.http import create_app
    from goodrate.serving.parts import Parts

    listener = socket.create_server(("127.0.0.1", 0))
    app_of = create_app(Index.open(folder / "shop-index").pipeline, Parts(workbench=Workbench(folder / "team")))
    server = uvicorn.Server(uvicorn.Config(app_of, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    server.should_exit = True
    thread.join()


def pictures(folder: Path) -> None:
    """The pages of grading and of the history, and the report."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    with served(folder) as url, sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1040, "height": 720}, locale="en-US")
        page.goto(f"{url}grade/")
        page.get_by_label("Your name").fill("Ada")
        page.get_by_role("button", name="Go on").click()
        page.get_by_label("the same").check()
        page.locator("#agreement tbody tr").first.wait_for()
        keep(page, "grading_page")
        page.goto(f"{url}monitor/")
        page.locator("#run tbody tr").first.wait_for()
        keep(page, "monitor_page")
        page.goto(f"file://{folder / 'team' / 'monitor' / 'report.html'}")
        keep(page, "monitor_report")
        browser.close()


def keep(page: Any, name: str) -> None:
    """A picture of what the window shows."""
    page.screenshot(path=str(PICTURES / f"{name}.png"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    app(arguments)


if __name__ == "__main__":
    main()
