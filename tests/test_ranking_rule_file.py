"""Ranking rules as they are read: what is accepted, which queries and days they are for, what is said of mistakes."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from goodrate.ranking.rule_file import RankingRules

DAY = datetime.date(2026, 7, 1)
RULES = """
[[pin]]
name = "lamp of the week"
query = ["Desk Lamp", "lámpara"]
ids = ["l1", "l2"]
places = [2, 1]

[[boost]]
name = "summer sale"
query = "lamps"
match = "words"
where = "brand = 'Brumm'"
factor = 2
from = 2026-06-01
until = "2026-08-31"

[[boost]]
name = "own brand"
ids = ["l3"]
places = -2

[[bury]]
name = "recalled"
ids = ["l4"]
to = "out"
"""


def names(query: str, day: datetime.date = DAY, text: str = RULES) -> list[str]:
    return [rule.name for rule in RankingRules.parse(text, "rules.toml").for_query([query], day).all()]


def test_rules_are_for_their_queries_and_days() -> None:
    assert names("desk lamp!") == ["lamp of the week", "summer sale", "own brand", "recalled"]
    assert names("Lampara")[0] == "lamp of the week"
    assert names("desk lamps") == ["summer sale", "own brand", "recalled"], "exact: a plural is another query"
    assert names("kettle") == ["own brand", "recalled"]
    for day, acts in [("2026-05-31", False), ("2026-06-01", True), ("2026-08-31", True), ("2026-09-01", False)]:
        assert ("summer sale" in names("lamp", datetime.date.fromisoformat(day))) == acts, day


@pytest.mark.parametrize(
    ("match", "query", "applies"),
    [
        ("exact", "USB  cable", True),
        ("exact", "usb cable 2m", False),
        ("words", "cables for usb devices", True),
        ("words", "cable", False),
        ("contains", "long usb cables", True),
        ("contains", "usb hub cable", False),
        ("contains", "cable usb", False),
    ],
)
def test_how_a_query_matches(match: str, query: str, applies: bool) -> None:
    text = f'[[bury]]\nname = "r"\nquery = "usb cable"\nmatch = "{match}"\nids = ["x"]\n'
    assert (names(query, text=text) == ["r"]) == applies


def test_ids_and_places() -> None:
    rules = RankingRules.parse(RULES, "rules.toml")
    assert rules.ids() == ["l1", "l2", "l3", "l4"] and bool(rules) and not RankingRules()
    assert rules.pin[0].at() == [(2, "l1"), (1, "l2")]
    assert [rule.name for rule in rules.removing().all()] == ["recalled"]


PIN, BOOST, BURY = '[[pin]]\nname="p"\n', '[[boost]]\nname="b"\n', '[[bury]]\nname="u"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[pin", "rules.toml: not valid TOML"),
        ("[[pins]]\n", "rules.toml: unknown key 'pins'; did you mean 'pin'? known: pin, boost, bury"),
        ("pin = 3", "rules.toml: pin: expected a list, found 3"),
        ('[[pin]]\nnmae="a"\nquery="x"\nids=["1"]', "rules.toml: pin rule 1: unknown key 'nmae'; did you mean 'name'?"),
        (PIN + 'ids=["1"]', "rules.toml: pin 'p': query: expected, and it is not there"),
        (PIN + 'query="x"\nids=[17]', "rules.toml: pin 'p': ids[0]: expected a text in quotes, found 17"),
        (PIN + 'query="x"\nids=["1","1"]', "rules.toml: pin 'p': ids: '1' is there twice"),
        (PIN + 'query="x"\nids=["1"]\nplaces=[0]', "pin 'p': places[0]: expected a place from 1 on, found 0"),
        (PIN + 'query="x"\nids=["1"]\nplaces=[1,2]', "expected 1 numbers, one for each id; found 2"),
        (PIN + 'query="?!"\nids=["1"]', "rules.toml: pin 'p': query '?!' has no letter or digit"),
        (BOOST + 'ids=["1"]', "rules.toml: boost 'b': expected either places or factor"),
        (BOOST + 'ids=["1"]\nplaces=1\nfactor=2', "rules.toml: boost 'b': expected either places or factor"),
        (BOOST + "places=1", "rules.toml: boost 'b': expected either ids or where"),
        (BOOST + 'ids=["1"]\nfactor=-1', "rules.toml: boost 'b': factor: expected a number above 0, found -1"),
        (BOOST + 'ids=["1"]\nfactor=true', "rules.toml: boost 'b': factor: expected a number, found True"),
        (BOOST + 'ids=["1"]\nplaces=0', "move nothing"),
        (BURY + 'ids=["1"]\nto="away"', "rules.toml: bury 'u': to: expected 'end' or 'out', found 'away'"),
        (BURY + 'ids=["1"]\nuntil="soon"', "bury 'u': until: expected a date such as 2026-08-31, found 'soon'"),
        (BURY + 'ids=["1"]\nfrom=2026-02-01\nuntil=2026-01-01', "from (2026-02-01) is after until (2026-01-01)"),
        (BURY + 'ids=["1"]\n' + BOOST.replace('"b"', '"u"') + 'ids=["1"]\nplaces=1', "name: 'u' is there twice"),
    ],
)  # fmt: skip
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError) as error:
        RankingRules.parse(text, "rules.toml")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_not_utf8(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file: .*rules.toml; expected ranking rules in TOML"):
        RankingRules.read(tmp_path / "rules.toml")
    (tmp_path / "rules.toml").write_bytes(b'[[bury]]\nname = "gr\xfcn"\n')
    with pytest.raises(ValueError, match="rules.toml, line 2: byte 0xfc is not UTF-8"):
        RankingRules.read(tmp_path / "rules.toml")


def test_a_wrong_filter_is_named_with_its_rule() -> None:
    def check(where: str) -> None:
        raise ValueError(f"no column in {where}")

    rules = RankingRules.parse(BURY + 'where="prize < 5"', "rules.toml")
    with pytest.raises(ValueError, match="rules.toml: bury 'u': where: no column in prize < 5"):
        rules.check_filters(check, "rules.toml")
