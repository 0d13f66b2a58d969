"""The walk that docs/comparing.md shows: the embedded shop, two systems, stand-ins for raters and shoppers, pictures.

python benchmarks/comparing_walk.py     writes benchmarks/results/comparing_walk.txt and docs/pictures/comparing_*.png

Raters and shoppers are simulated from the shop's labels, and the judge is these labels: the numbers show what the
commands print, and say nothing of any judge.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import typer
from fastapi.testclient import TestClient

from goodrate.api.interleaving import open_interleaving
from goodrate.api.reading import read_judgements
from goodrate.api.systems import open_systems, read_system
from goodrate.relevance.human_judge import write_human_judge
from goodrate.scale import FOUR_LEVEL
from goodrate.serving.http import create_app
from goodrate.serving.parts import Parts
from goodrate.serving.workbench.store import Workbench

ROOT = Path(__file__).parents[1]
GOODRATE = (sys.executable, "-c", "from goodrate.cli import main; main()")
RESULT, PICTURES = ROOT / "benchmarks" / "results" / "comparing_walk.txt", ROOT / "docs" / "pictures"
SHOP = "goodrate shop --out shop --set seed=3 --set items=600 --set queries=80"
WORDS, JUDGE = "shop-index,name=words", "shop-index,judge=labels,name=labels"
RATERS = {"Ada": 0.1, "Bo": 0.3}  # how much noise is in what they see
VOTES_OF = {"Ada": 1000, "Bo": 30}
SESSIONS = 150
Truth = dict[tuple[str, str], float]  # gain by query and item


def say(folder: Path, line: str) -> str:
    """A command line and what it says."""
    environment = {**os.environ, "COLUMNS": "120", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*GOODRATE, *line.split()[1:]], cwd=folder, capture_output=True, text=True, env=environment
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{line}: {done.stderr[-2000:]}")
    said = "\n".join(part.rstrip() for part in (done.stderr, done.stdout) if part.strip())
    said = "\n".join(row for row in said.splitlines() if not re.match(r"queries: \d", row))
    return f"$ {line}\n{said}\n"


def read_truth(folder: Path) -> Truth:
    """What people labelled; anything else is worth nothing."""
    rows = pl.read_csv(folder / "shop" / "judgements.csv").select("query", "item_id", "label").rows()
    return {(query, item): FOUR_LEVEL.gains[FOUR_LEVEL.index(label)] / 7 for query, item, label in rows}


def vote(web: TestClient, truth: Truth) -> None:
    """Raters who see the discounted gain of both lists through some noise."""
    rng = np.random.default_rng(1)
    number = web.get("/compare/sets").json()["sets"][0]["id"]
    for rater, noise in RATERS.items():
        queries = web.get(f"/compare/sets/{number}", params={"rater": rater}).json()["queries"]
        for one in queries[: VOTES_OF[rater]]:
            shown = web.get(f"/compare/queries/{one['id']}", params={"rater": rater}).json()
            gains = [worth(truth, one["query"], shown[side]) + rng.normal(0, noise) for side in ("left", "right")]
            better = "same" if abs(gains[0] - gains[1]) < 0.2 else "left" if gains[0] > gains[1] else "right"
            web.post("/compare/votes", json={"query_id": one["id"], "rater": rater, "better": better})


def worth(truth: Truth, query: str, items: list[dict[str, Any]]) -> float:
    """Discounted gain of a list."""
    return float(sum(truth.get((query, item["id"]), 0.0) / np.log2(place + 2) for place, item in enumerate(items)))


def shop_around(web: TestClient, truth: Truth, queries: list[str]) -> None:
    """Shoppers who look less far with each place and click what is worth it."""
    rng = np.random.default_rng(2)
    for session in range(SESSIONS):
        query = queries[int(rng.integers(len(queries)))]
        answer = web.get("/search", params={"query": query, "k": 10, "session_id": f"s{session}"}).json()
        for place, one in enumerate(answer["results"]):
            if rng.random() < truth.get((query, one["item_id"]), 0.0) * 0.7 / (place + 1) ** 0.5:
                clicked = {"object": {"object_id": one["item_id"], "object_id_field": "id"}}
                event = {"action_name": "click", "query_id": answer["query_id"], "event_attributes": clicked}
                web.post("/ubi/events", json=event)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a server over the shop with its judge and the workbench."""
    words = ["serve", "shop-index", "--model", "labels", "--workbench", "team", "--port", "0"]
    process = subprocess.Popen([*GOODRATE, *words], cwd=folder, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    while not (found := re.search(r"http://127\.0\.0\.1:\d+", said)):
        line = process.stderr.readline()
        if not line:
            raise RuntimeError(f"the server ended: {said}")
        said += line
    try:
        yield found.group()
    finally:
        process.kill()
        process.wait()


def take_pictures(url: str, query: str) -> None:
    """Both pages and an overruled result, as a person sees them."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = player.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport={"width": 1000, "height": 640}, locale="en-US")
        page.goto(f"{url}/compare/")
        page.get_by_label("Your name").fill("Cy")
        page.keyboard.press("Enter")
        page.locator("#start .set").first.click()
        page.locator("#left .one").first.wait_for()
        page.screenshot(path=PICTURES / "comparing_side_by_side.png")
        page.goto(f"{url}/?query={query.replace(' ', '+')}")
        page.locator(".result .why").first.click()
        page.get_by_role("button", name="Overrule the judge").first.click()
        form = page.locator("form.overrule")
        form.get_by_label("It is").select_option("irrelevant")
        form.get_by_label("Why").fill("out of stock until spring")
        form.get_by_label("Until").fill("2999-12-31")
        form.scroll_into_view_if_needed()
        page.screenshot(path=PICTURES / "comparing_overrule.png")
        form.get_by_role("button", name="Set").click()
        page.locator(".told").wait_for()
        page.goto(f"{url}/overrules/")
        page.locator("tbody tr").first.wait_for()
        page.screenshot(path=PICTURES / "comparing_overrules.png", clip={"x": 0, "y": 0, "width": 1000, "height": 400})
        browser.close()


def main(pictures: bool = True) -> None:
    """Write everything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say(folder, SHOP)
        pl.read_csv(folder / "shop" / "queries.csv").select("query").write_csv(folder / "queries.csv")
        say(folder, "goodrate index shop/catalog.parquet --out shop-index")
        write_human_judge(folder / "labels", read_judgements(folder / "shop" / "judgements.csv", "four_level"))
        made = f"goodrate compare {WORDS} {JUDGE} --queries queries.csv --out team -k 5 --name labels"
        parts = [say(folder, made)]
        truth, queries = read_truth(folder), pl.read_csv(folder / "queries.csv")["query"].to_list()
        os.chdir(folder)
        team = Workbench("team")
        beside = open_interleaving("words", JUDGE, team)
        plain = open_systems(read_system(WORDS))[0]
        web = TestClient(create_app(plain.pipeline, Parts(workbench=team, interleaving=beside)))
        vote(web, truth)
        shop_around(web, truth, queries)
        parts += [say(folder, "goodrate compare report team"), say(folder, "goodrate compare interleaved team")]
        RESULT.write_text("\n".join(parts), encoding="utf-8")
        if pictures:
            with served(folder) as url:
                take_pictures(url, queries[1])
        os.chdir(ROOT)
    print(RESULT)


if __name__ == "__main__":
    typer.run(main)
