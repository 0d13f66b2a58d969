"""Proposals of synonyms: found where phrases replace each other, refused for contrasts, written commented out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from goodrate import cli
from goodrate.api.synonyms import read_synonyms, write_proposals
from goodrate.catalog.items import Catalog
from goodrate.retrieval.rewriting.synonym_proposals import Proposal, propose

# Words of one group are near for the encoder, those of different groups are not.
GROUPS = [
    ("sofa", "couch", "divan"), ("lamp", "luminaire"), ("wired", "wireless"), ("oak", "walnut"), ("red", "blue"),
    ("kira", "velto"), ("theater", "theatre"), ("print", "printing"), ("small", "large"), ("salt", "pepper"),
]  # fmt: skip


class GroupEncoder:
    """A unit vector for every group, a mean for several words, each word turned a little its own way."""

    def encode_queries(self, texts: list[str]) -> np.ndarray:
        numbers = {word: n for n, group in enumerate(GROUPS) for word in group}
        rows = []
        for text in texts:
            rng = np.random.default_rng(sum(map(ord, text)))
            row = rng.normal(size=200) * 0.02
            for word in text.split():
                row[numbers.get(word.rstrip("s"), 20 + sum(map(ord, word)) % 180)] += 1.0
            rows.append(row / np.linalg.norm(row))
        return np.array(rows, dtype=np.float32)


def items() -> pl.DataFrame:
    """Titles in which the words of a group stand in the same places, with three brands and a material attribute."""
    templates = {
        "{} with cushions for living room": GROUPS[0],
        "hanging {} brass dimmable": GROUPS[1],
        "{} keyboard numeric keys": GROUPS[2],
        "dining table {} extendable": GROUPS[3],
        "cotton curtain {} blackout": GROUPS[4],
        "home {} projector loud": GROUPS[6],
        "paper for {} glossy sheets": GROUPS[7],
        "{} storage basket woven": GROUPS[8],
    }
    titles = [template.format(word) for template, group in templates.items() for word in group for _ in range(6)]
    titles += ["salt and pepper mill steel"] * 9 + ["salt shaker glass"] * 3 + ["pepper shaker glass"] * 3
    material = ["oak" if "oak" in title else "walnut" if "walnut" in title else "other" for title in titles]
    rows = [
        {"id": str(n), "title": title, "brand": ("Kira", "Velto", "Olmo")[n % 3],
         "attributes": f'{{"material":"{wood}"}}'}
        for n, (title, wood) in enumerate(zip(titles, material, strict=True))
    ]  # fmt: skip
    return Catalog(pl.DataFrame(rows)).frame


def pairs(found: list[Proposal]) -> set[frozenset[str]]:
    return {frozenset((one.first, one.second)) for one in found}


def test_words_that_replace_each_other_are_proposed_and_contrasts_are_not() -> None:
    found = propose(items(), GroupEncoder())
    assert pairs(found) == {
        frozenset(pair) for pair in (("sofa", "couch"), ("sofa", "divan"), ("couch", "divan"), ("lamp", "luminaire"),
                                     ("theater", "theatre"))
    }  # fmt: skip
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert all(0.6 < one.score <= 1 for one in found)


def test_evidence_names_items_contexts_and_queries() -> None:
    found = propose(items(), GroupEncoder(), [("couch", 40.0), ("sofas", 30.0), ("zzz", 1.0)])
    proposal = next(one for one in found if {one.first, one.second} == {"couch", "sofas"})
    assert proposal.evidence[1] == "6 and 6 items, 0 with both"
    assert {"cushion", "living", "room"} <= set(proposal.evidence[2].removeprefix("both stand with: ").split(", "))
    assert proposal.evidence[3:] == ("asked: couch 40 times", "asked: sofas 30 times")


def test_a_query_that_no_title_has_can_be_proposed() -> None:
    without = items().filter(~pl.col("title").str.contains("luminaire"))
    assert frozenset(("lamp", "luminaire")) not in pairs(propose(without, GroupEncoder()))
    found = propose(without, GroupEncoder(), [("luminaires", 9.0)])
    proposal = next(one for one in found if "luminaires" in (one.first, one.second))
    assert {proposal.first, proposal.second} == {"lamp", "luminaires"}
    assert proposal.evidence[0].endswith("no title has one of them")


def test_names_of_one_brands_line_are_left_out() -> None:
    one_brand = items().with_columns(
        brand=pl.when(pl.col("title").str.contains("sofa|couch|divan")).then(pl.lit("Olmo")).otherwise("brand")
    )
    assert pairs(propose(one_brand, GroupEncoder())) == {
        frozenset(("lamp", "luminaire")), frozenset(("theater", "theatre")),
    }  # fmt: skip


def test_the_number_is_bounded_and_small_catalogues_give_none() -> None:
    assert len(propose(items(), GroupEncoder(), most=2)) == 2
    assert propose(items().head(0), GroupEncoder()) == propose(items().head(1), GroupEncoder()) == []
    with pytest.raises(ValueError, match="most must be at least 1; got 0"):
        propose(items(), GroupEncoder(), most=0)


def test_a_written_file_has_no_rule_until_a_line_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    write_proposals(path, propose(items(), GroupEncoder()), "products.csv")
    assert len(read_synonyms(path)) == 0
    accepted = path.read_text(encoding="utf-8").replace("\n# lamp, luminaire", "\nlamp, luminaire")
    path.write_text(accepted, encoding="utf-8")
    assert [one.text for one in read_synonyms(path).expand("brass lamps")] == ["brass luminaire"]
    with pytest.raises(ValueError, match="synonyms.txt is there already, perhaps with accepted lines"):
        write_proposals(path, [], "products.csv")
    assert path.read_text(encoding="utf-8") == accepted


def test_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("goodrate.api.encoders.load_encoder", lambda path, *how: GroupEncoder())
    items().write_parquet(tmp_path / "products.parquet")
    (tmp_path / "log.csv").write_text("query,count\ncouch,4\n")
    out = tmp_path / "proposed.txt"
    call = ["goodrate", "synonyms", "propose", str(tmp_path / "products.parquet"), "--encoder", "e", "--out", str(out)]

    def run(*more: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [*call, *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), " ".join(capsys.readouterr().err.split())

    code, said = run("--query-log", str(tmp_path / "log.csv"))
    assert code == 0 and "5 proposals from" in said and "none counts until" in said
    text = out.read_text(encoding="utf-8")
    assert "# lamp, luminaire\n" in text and "## asked: couch 4 times" in text and "products.parquet" in text
    assert run()[0] == 2 and "is there already" in run()[1]
    call[-1] = str(tmp_path / "proposed.csv")
    assert run() == (2, f"goodrate: --out {call[-1]}: expected a name that ends in .txt")
