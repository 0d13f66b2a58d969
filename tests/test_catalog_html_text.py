"""HTML in catalogues: text only, decoded once, the same for search, encoder, judge and answer."""

from __future__ import annotations

import html
import json
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goodrate.api.index import Index
from goodrate.catalog.html_text import BLOCK, INLINE, UNSEEN, html_texts
from goodrate.catalog.items import Catalog
from goodrate.catalog.readers import read_catalog
from goodrate.catalog.rendering import lexical_texts
from goodrate.relevance.listing import listing


def text_of(text: str) -> str:
    return html_texts(pl.Series([text]))[0]


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("<p>One</p><ul><li>two<li>three</ul>", "One two three"),
        ("H<sub>2</sub>O and <b>w</b>ord<br>next<br/>more", "H2O and word next more"),
        ("a<script>alert('<b>')</script>b <style>p {top: 0}</style>c", "a b c"),
        ("a <STYLE type='x'>p</STYLE >b<script>never closed", "a b"),
        ("<!-- a <b>comment</b> -->y", "y"),
        ("<![CDATA[<b>Oak</b> &amp; ash]]>", "Oak & ash"),
        ("<a href='x>y' title=\"1 > 0\">z</a>", "z"),
        ("<IMG src=x onerror='1'>pic", "pic"),
        ("Black &amp; Decker, caf&eacute; &#233; &#xE9;, &euro;5", "Black & Decker, caf\u00e9 \u00e9 \u00e9, \u20ac5"),
        ("&amp;amp; &amp;lt;b&amp;gt; &lt;i&gt;", "&amp; &lt;b&gt; <i>"),
        ("a&nbsp;\n b &nbsp;", "a b"),
        ("Regen&shy;schirm", "Regenschirm"),
        ("a long text that was cut <a href=\"http://exam", "a long text that was cut"),
        ("a long text that was cut</p", "a long text that was cut"),
    ],
)  # fmt: skip
def test_html_is_read_as_text(written: str, text: str) -> None:
    assert text_of(written) == text


@pytest.mark.parametrize(
    "plain",
    ["a < b", "I <3 it", "5<10", "x<y and y>z", "AT&T R&D", "<Model X> by <unknown>", "a&copy=1&notes", "two  blanks",
     "&unknown; stays", "size < 5 & > 3", "</3"],
)  # fmt: skip
def test_what_is_no_html_stays_as_it_is(plain: str) -> None:
    assert text_of(plain) == plain


class Browserly(HTMLParser):
    """Python's own parser as the judge of well-formed pages."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.hidden += tag in UNSEEN
        self.parts.append("" if tag in INLINE else " ")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in UNSEEN
        self.parts.append("" if tag in INLINE else " ")

    def handle_data(self, data: str) -> None:
        self.parts.append("" if self.hidden else data)


words = st.text(st.sampled_from("abc 123 &<>\"'\u00e9;#"), max_size=8)
attributes = st.sampled_from(["", ' class="a>b"', " id='x'", " hidden", "\n title=\"a 'b'\""])
APART = ("textarea", "title", "plaintext", *UNSEEN)
names = st.sampled_from([name for name in (*INLINE, *BLOCK) if name not in APART])


def element(names: st.SearchStrategy[str], inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda name, extra, text: f"<{name}{extra}>{text}</{name}>", names, attributes, inner)


texts = words.map(html.escape)
# none within another: a script ends at its first end tag, whatever it seems to hold
unseen = element(st.sampled_from(UNSEEN), st.lists(element(names, texts) | texts, max_size=3).map("".join))
pages = st.recursive(texts | unseen, lambda inner: st.lists(element(names, inner) | inner, max_size=4).map("".join))


@settings(max_examples=150, deadline=None)
@given(pages)
def test_well_formed_pages_are_read_as_a_parser_reads_them(page: str) -> None:
    reader = Browserly()
    reader.feed(page)
    reader.close()
    expected = " ".join("".join(reader.parts).split())
    assert text_of(page) == (expected if "<" in page or "&" in page else page)


def test_the_same_text_everywhere_and_how_many_items_were_cleaned(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "title": "Desk &amp; lamp", "brand": "O&#39;Dare", "category": "Home &gt; Lamps",
         "description": "<p>Oak</p><style>zzz</style>", "attributes": {"Finish &amp; look": "<b>matt</b>", "n": "<br>"},
         "tags": ["a&amp;b", "c"]},
        {"id": "2", "title": "a < b", "brand": "", "category": "", "description": "plain", "attributes": {}},
    ]  # fmt: skip
    path = tmp_path / "items.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    catalog = read_catalog(path)
    item = catalog.frame.row(0, named=True)
    assert (item["title"], item["brand"], item["category"]) == ("Desk & lamp", "O'Dare", "Home > Lamps")
    assert (item["description"], json.loads(item["attributes"])) == (
        "Oak", {"Finish & look": "matt", "tags": ["a&b", "c"]},
    )  # fmt: skip
    assert catalog.frame["title"][1] == "a < b"
    assert catalog.notes[1:] == (
        "HTML read as text, items changed: title 1, description 1, brand 1, category 1, attributes 1",
    )
    (found,) = Index.create(tmp_path / "index", catalog).search("oak")
    for text in (
        found.item["description"],
        listing(item),
        catalog.text()[0],
        " ".join(lexical_texts(catalog.frame)[0]),
    ):
        assert "Oak" in text and "zzz" not in text and "<p>" not in text


def test_a_title_of_tags_alone_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("id,title\n1,<br>\n")
    with pytest.raises(ValueError, match="row 2, column title: expected title to be filled"):
        read_catalog(path)


def test_items_given_from_python_become_text_as_those_of_files_do_and_once(tmp_path: Path) -> None:
    rows = {
        "id": ["a"],
        "title": ["<b>Desk</b> &amp;amp; lamp"],
        "description": ["<p>Oak</p><script>x()</script>"],
        "material": ["<i>oak</i>"],
    }
    typed = Catalog(pl.DataFrame(rows))
    assert typed.frame.row(0)[:3] == ("a", "Desk &amp; lamp", "Oak")
    assert json.loads(typed.frame["attributes"][0]) == {"material": "oak"}
    pl.DataFrame(rows).write_csv(tmp_path / "items.csv")
    assert read_catalog(tmp_path / "items.csv").frame.equals(typed.frame)
    # What was text once stays: entities are decoded once, however often the items pass through an index.
    index = Index.create(tmp_path / "index", typed)
    assert index.items.frame.equals(typed.frame) and index.store.items(["a"]).equals(typed.frame)
    assert typed[:1].frame.equals(typed.frame)
