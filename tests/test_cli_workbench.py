"""goodrate serve with a workbench and a second system, and goodrate compare serve, as processes: what they acknowledged
is there after kill -9."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from goodrate.api.comparing import compare, comparison_report
from goodrate.api.interleaving import interleaved_report
from goodrate.catalog.items import Catalog
from goodrate.cli.serve import command
from goodrate.retrieval.store import Store
from served_process import started
from serving_shop import CATALOGUE


def asked(address: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON of an address; of a body sent to it."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def test_votes_and_clicks_outlive_their_servers(tmp_path: Path) -> None:
    index, team = tmp_path / "index", tmp_path / "team"
    Store.create(index, None, None).upsert(Catalog(CATALOGUE), None)
    (tmp_path / "new.toml").write_text(f'index = "{index}"\nrules = "{tmp_path / "pins.toml"}"\n')
    (tmp_path / "pins.toml").write_text('[[pin]]\nname = "kettle first"\nquery = "red shoes"\nids = ["a5"]\n')
    compare(f"{index},name=old", str(tmp_path / "new.toml"), ["red shoes", "running"], team)
    url, process = started("serve", index, "--workbench", team, "--interleave", tmp_path / "new.toml")
    sets = asked(f"{url}/compare/sets")["sets"]
    queries = asked(f"{url}/compare/sets/{sets[0]['id']}?rater=Ada")["queries"]
    vote = {"query_id": queries[0]["id"], "rater": "Ada", "better": "left"}
    assert asked(f"{url}/compare/votes", vote) == {"kept": True}
    answer = asked(f"{url}/search?query=red+shoes&client_id=c1")
    clicked = {"object": {"object_id": answer["results"][0]["item_id"]}}
    click = {"action_name": "click", "query_id": answer["query_id"], "event_attributes": clicked}
    assert asked(f"{url}/ubi/events", click) == {"kept": 1}
    process.kill()
    process.wait(timeout=60)
    assert interleaved_report(team).preference.clicks == 1
    url, process = started("compare", "serve", team)
    queries = asked(f"{url}/compare/sets/{sets[0]['id']}?rater=Ada")["queries"]
    assert [one["voted"] for one in queries] == [True]
    asked(f"{url}/compare/votes", {**vote, "rater": "Bo"})
    process.kill()
    process.wait(timeout=60)
    assert comparison_report(team).report.votes == {"Ada": 1, "Bo": 1}


def test_a_second_system_needs_a_log() -> None:
    refused = CliRunner().invoke(command, ["nowhere", "--interleave", "other", "--port", "0"])
    assert "--workbench DIR" in str(refused.exception) and isinstance(refused.exception, ValueError)
