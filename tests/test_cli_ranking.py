"""Ranking rules, groups, sorting and pages on the command line, and rules measured against judgements."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calling import called

FEED = """sku,name,price,brand,parent_id,colour
1,oak desk lamp lamp,20,Kira,p,red
2,oak desk lamp,15,Kira,p,blue
3,brass lamp with a shade,35,Velto,,
4,red wool rug,50,Velto,,
"""
RULES = """
[[pin]]
name = "rug week"
query = "lamp"
ids = ["4", "9"]

[[bury]]
name = "no brass"
where = "title ILIKE '%brass%'"
to = "out"
"""
LABELS = "query,item_id,label\nlamp,4,excellent\nlamp,1,irrelevant\n"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """Call goodrate in a folder with feed.csv; gives (exit code, stdout, stderr with its wrapping undone)."""
    (tmp_path / "feed.csv").write_text(FEED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        return called(monkeypatch, capsys, *arguments)

    return call


INDEX = ("index", "feed.csv", "--out", "shop", "--map", "id=sku,title=name")


def found(answer: tuple[int, str, str]) -> list[str]:
    code, out, err = answer
    assert code == 0, err
    return [result["id"] for result in json.loads(out)["results"]]


def test_rules_beside_a_catalogue_go_into_the_index_and_act(run, tmp_path: Path) -> None:
    (tmp_path / "ranking_rules.toml").write_text(RULES)
    code, _, err = run(*INDEX)
    assert code == 0 and "ranking rules for searches: ranking_rules.toml" in err
    assert "ranking rules: 1 of 2 ids are not in shop, such as '9'" in err
    assert (tmp_path / "shop" / "ranking_rules.toml").read_text() == RULES
    answer = run("search", "shop", "lamp", "--json")
    assert found(answer) == ["4", "1", "2"] and "1 of 2 ids are not in shop" in answer[2]
    document = json.loads(answer[1])
    assert document["rules"] == ["rug week", "no brass"] and document["results"][0]["rules"] == ["rug week"]
    assert found(run("search", "shop", "lamp", "--no-rules", "--json")) == ["1", "2", "3"]
    _, out, _ = run("search", "shop", "lamp")
    assert "rug week" in out.splitlines()[2] and "rules: rug week, no brass" in out
    (tmp_path / "other.toml").write_text(RULES.split("[[bury]]")[0])
    assert found(run("search", "shop", "lamp", "--rules", "other.toml", "--json")) == ["4", "1", "2", "3"]


def test_broken_rules_are_said_and_the_index_keeps_what_it_has(run, tmp_path: Path) -> None:
    (tmp_path / "ranking_rules.toml").write_text(RULES.replace("ids", "item_ids"))
    code, _, err = run(*INDEX)
    assert code == 2 and "ranking_rules.toml: pin 'rug week': unknown key 'item_ids'; did you mean 'ids'?" in err
    assert not (tmp_path / "shop").exists()
    (tmp_path / "ranking_rules.toml").write_text(RULES.replace("title ILIKE", "name ILIKE"))
    code, _, err = run(*INDEX)
    assert code == 2 and "ranking_rules.toml: bury 'no brass': where: filter" in err and "no column named name" in err
    assert not (tmp_path / "shop" / "ranking_rules.toml").exists()
    for arguments, message in [
        (("--rules", "nowhere.toml"), "no such file: nowhere.toml; expected ranking rules in TOML"),
        (("--rules", "ranking_rules.toml", "--no-rules"), "--rules FILE and --no-rules exclude each other"),
        (("--sort", "prize"), "sort 'prize': expected price, rating or attributes.NAME"),
        (
            ("--group-by", "colour"),
            "group_by 'colour': expected parent_id, title, brand, category, none or attributes.NAME",
        ),
        (("--offset", "995"), "offset is 995 and k 10; expected offset >= 0, and offset + k <= 1,000"),
    ]:
        code, out, err = run("search", "shop", "lamp", *arguments)
        assert (code, out) == (2, "") and message in err, err


def test_groups_sorting_and_pages(run) -> None:
    code, _, err = run(*INDEX, "--group-by", "parent_id")
    assert code == 0 and "results are grouped by parent_id unless a search says otherwise" in err
    answer = run("search", "shop", "lamp", "--json")
    assert found(answer) == ["1", "3"]
    first = json.loads(answer[1])["results"][0]
    assert first["variants"] == [
        {"id": "2", "title": "oak desk lamp", "price": 15.0, "image": "", "differing": {"colour": "blue"}}
    ]
    _, out, _ = run("search", "shop", "lamp")
    assert "+1" in out and "grouped by parent_id" in out
    assert found(run("search", "shop", "lamp", "--group-by", "none", "--sort=-price", "--json")) == ["3", "1", "2"]
    assert found(run("search", "shop", "lamp", "--group-by", "none", "-k", "1", "--offset", "1", "--json")) == ["2"]
    code, _, err = run("index", "--out", "shop", "--group-by", "none")
    assert code == 0 and "results are not grouped unless a search says otherwise" in err
    assert found(run("search", "shop", "lamp", "--json")) == ["1", "2", "3"]
    code, _, err = run("index", "--out", "shop", "--group-by", "colour")
    assert code == 2 and "group_by 'colour': expected parent_id" in err


def test_rules_are_measured_only_when_they_are_asked_for(run, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(LABELS)
    assert run(*INDEX)[0] == 0
    evaluate = ("evaluate", "shop", "--judgements", "labels.csv", "-k", "1", "--json")
    code, _, err = run(*evaluate, "--systems", "lexical,rules")
    assert code == 2 and "system rules: shop/ranking_rules.toml has no ranking rules" in err
    (tmp_path / "shop" / "ranking_rules.toml").write_text(RULES)

    def ndcg(*arguments: str) -> dict[str, float]:
        code, out, err = run(*evaluate, *arguments)
        assert code == 0, err
        return {name: one["metrics"]["ndcg@1"]["value"] for name, one in systems(json.loads(out)).items()}

    assert ndcg("--systems", "lexical,rules") == {"lexical": 0.0, "rules": 1.0}
    assert "rules" not in ndcg()
    code, _, err = run(*evaluate, "--systems", "rules", "--judged-only")
    assert code == 2 and "ranking rules act on a whole search" in err
    code, _, err = run(*evaluate, "--systems", "lexical", "--rules", "ranking_rules.toml")
    assert code == 2 and "--rules is for the system rules, which is not measured" in err


def systems(report: dict) -> dict[str, dict]:
    """The systems of a report by name."""
    return {one["name"]: one for one in report["systems"]}
