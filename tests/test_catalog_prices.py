"""Prices as shops write them: the column's form, its currency, and what is asked or refused."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from goodrate.api.judging import ItemSource
from goodrate.api.trimming import _documents
from goodrate.catalog.currencies import CODES, SIGNS, UNDECIDED, currency_of
from goodrate.catalog.prices import PriceColumn, PriceOptions, read_prices
from goodrate.catalog.readers import read_catalog
from goodrate.examples.settings import DataSettings
from goodrate.examples.sources import load_data


def read(texts: list[str | None], decimal: str | None = None, currency: str | None = None) -> PriceColumn:
    column = pl.Series(texts, dtype=pl.String)
    return read_prices(column, pl.Series(range(2, 2 + len(texts))), PriceOptions(decimal, currency))


@pytest.mark.parametrize(
    ("texts", "prices", "currency", "decimal"),
    [
        (["39.50 EUR"], [39.5], "EUR", "point"),
        (["\u20ac 39.50"], [39.5], "EUR", "point"),
        (["EUR39.50", "eur 7"], [39.5, 7.0], "EUR", "point"),
        (["89,99"], [89.99], "", "comma"),
        (["1.299,00 \u20ac", "89,- \u20ac"], [1299.0, 89.0], "EUR", "comma"),
        (["1,299.00"], [1299.0], "", "point"),
        (["1'299.00", "1\u2019299.50"], [1299.0, 1299.5], "", "point"),
        (["1 299,00", "1\u00a0299,50", "1\u202f299,5"], [1299.0, 1299.5, 1299.5], "", "comma"),
        (["\u00a35", "\u00a35.25"], [5.0, 5.25], "GBP", "point"),
        (["$1,299", "$5.00"], [1299.0, 5.0], "USD", "point"),
        (["1,29,999.00 Rs"], [129999.0], "INR", "point"),
        (["\uff11\uff19.\uff15 \uffe5"], [19.5], "JPY", "point"),
        # What the other rows say decides about rows that can be read in two ways.
        (["1.299", "89,99"], [1299.0, 89.99], "", "comma"),
        (["1,299", "89.99"], [1299.0, 89.99], "", "point"),
        (["1.299", "1.299.000"], [1299.0, 1299000.0], "", "comma"),
        (["12.500", "0.299"], [12.5, 0.299], "", "point"),
    ],
)  # fmt: skip
def test_a_column_is_read_as_a_whole(texts: list[str], prices: list[float], currency: str, decimal: str) -> None:
    column = read(texts)
    assert column.prices.to_list() == prices and column.problems == []
    assert set(column.currencies) == {currency}
    assert read(texts, decimal).prices.to_list() == prices  # what it says itself can be said


def test_the_form_is_told_in_a_line_unless_the_column_holds_plain_numbers() -> None:
    assert read(["5", "1.299,00 \u20ac", "7,5"]).notes == (
        "price: decimal comma, EUR; '1.299,00 \u20ac' is 1299.00; 2 without a currency count as EUR",
    )
    assert read(["1,299.00"]).notes == ("price: decimal point; '1,299.00' is 1299.00",)
    assert read(["\u00a35"]).notes == ("price: GBP; '\u00a35' is 5.00",)
    assert read(["1.299"], "comma").notes == ("price: decimal comma; '1.299' is 1299.00",)
    assert read(["39.50", "5", "", None, "nan", "1e3"]).notes == ()
    assert read(["39.50", "5", "", None, "nan", "1e3"]).prices.to_list() == [39.5, 5.0, None, None, None, 1000.0]


@pytest.mark.parametrize(("text", "point", "comma"), [("1.299", "1.299", "1299"), ("1,299", "1299", "1.299")])
def test_a_column_that_does_not_say_asks_with_both_readings(text: str, point: str, comma: str) -> None:
    with pytest.raises(ValueError) as caught:
        read([text, "5", text])
    said = f"'{text}' (row 2 and 1 more) is {point} with a decimal point and {comma} with a decimal comma"
    assert said in str(caught.value) and "say --decimal point or --decimal comma" in str(caught.value)
    assert read([text], "point").prices.to_list() == [float(point)]
    assert read([text], "comma").prices.to_list() == [float(comma)]


def test_rows_of_the_other_form_are_named() -> None:
    column = read(["39.50", "89,99", "40.25"])
    assert [str(problem) for problem in column.problems] == [
        "row 3, column price: expected a price with a decimal point, as the column has, such as 19.99, found '89,99'"
    ]
    with pytest.raises(ValueError, match=r"row 2 with a decimal point, row 3 with a decimal comma\); say --decimal"):
        read(["39.50", "89,99"])
    assert [problem.row for problem in read(["39.50", "89,99"], "comma").problems] == [2]


@pytest.mark.parametrize("text", ["free", "-1", "10 - 20", "5 pcs", "1,299.00,00", "inf", "EUR", "1.2.3", "USD 5 EUR"])
def test_what_is_no_price_is_named_and_never_half_read(text: str) -> None:
    (problem,) = read(["5.50", text]).problems
    assert (problem.row, problem.column) == (3, "price") and repr(text) in problem.expected


def test_one_currency_a_column() -> None:
    column = read(["\u20ac5", "\u00a35", "6 EUR", "7"])
    assert [(problem.row, problem.column) for problem in column.problems] == [(3, "price")]
    assert "a price in EUR, as most rows have" in column.problems[0].expected
    assert column.currencies[3] == "EUR"
    assert [problem.row for problem in read(["\u20ac5", "6"], currency="GBP").problems] == [2]
    assert read(["5", None], currency="chf").currencies.to_list() == ["CHF", ""]  # no price, no currency
    assert read(["$5"], currency="CAD").currencies.to_list() == ["CAD"]
    with pytest.raises(ValueError, match="'kr' can be SEK, NOK, DKK, ISK; say which with --currency"):
        read(["5 kr"])
    assert read(["5 kr"], currency="NOK").currencies.to_list() == ["NOK"]
    with pytest.raises(ValueError, match="unknown currency 'euros'"):
        PriceOptions(currency="euros")
    with pytest.raises(ValueError, match="--decimal knows point and comma; got ','"):
        PriceOptions(decimal=",")


def test_a_column_currency_names_each_rows(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text('id,title,price,currency\n1,a,"5,50",EUR\n2,b,\u00a36,gbp\n3,c,7,\n')
    catalog = read_catalog(path)
    assert catalog.frame.select("price", "currency").rows() == [(5.5, "EUR"), (6.0, "GBP"), (7.0, "")]
    path.write_text("id,title,price,currency\n1,a,5,euros\n2,b,\u00a36,EUR\n")
    with pytest.raises(ValueError) as caught:
        read_catalog(path)
    assert [line.split(", ", 1)[1] for line in str(caught.value).splitlines()[1:]] == [
        "row 2, column currency: expected a currency code such as EUR, found 'euros'",
        "row 3, column price: expected a price in EUR, as the row's currency says, found '\u00a36'",
    ]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_numbers_stay_numbers(tmp_path: Path, kind: str) -> None:
    frame = pl.DataFrame({"id": ["1", "2"], "title": ["a", "b"], "price": [1.299, None]})
    path = tmp_path / f"items.{kind}"
    frame.write_parquet(path) if kind == "parquet" else path.write_text(frame.write_ndjson())
    assert read_catalog(path).frame["price"].to_list() == [1.299, None]


def test_a_number_in_json_decides_nothing_about_texts(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    told = [1.299, "1.299", "0,5"]
    path.write_text("\n".join(json.dumps({"id": str(n), "title": "a", "price": p}) for n, p in enumerate(told)))
    assert read_catalog(path).frame["price"].to_list() == [1.299, 1299.0, 0.5]


def test_a_rating_may_have_a_decimal_comma(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("id;title;rating\n1;a;4,5\n2;b;4\n")
    assert read_catalog(path).frame["rating"].to_list() == [4.5, 4.0]
    path.write_text("id;title;rating\n1;a;4.500\n2;b;4,5\n")
    with pytest.raises(ValueError, match="row 3, column rating: expected a number such as 19.99, found '4,5'"):
        read_catalog(path)


def test_training_reads_prices_as_its_settings_say(tmp_path: Path) -> None:
    items, labels = tmp_path / "items.csv", tmp_path / "labels.csv"
    items.write_text("id;title;price\n1;oak lamp;1.299\n")
    words = ["oak lamp", "red rug", "usb hub", "tea pot", "wool hat", "desk", "pen set", "sofa", "mug", "car wax"]
    labels.write_text("query,item_id,label\n" + "".join(f"{query},1,excellent\n" for query in words))
    settings = {"catalog": str(items), "judgements": str(labels)}
    with pytest.raises(ValueError, match="--decimal comma \\(data.decimal in training"):
        load_data(DataSettings(**settings))
    data = load_data(DataSettings(**settings, decimal="comma", currency="EUR"))
    assert data.catalog.frame.select("price", "currency").rows() == [(1299.0, "EUR")]
    assert "price: decimal comma, EUR; '1.299' is 1299.00" in data.notes
    with pytest.raises(ValueError, match="data.decimal is about data.catalog, which is not named"):
        DataSettings(index="shop-index", judgements=str(labels), decimal="comma")


def test_items_of_pair_files_and_of_trimming_are_read_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("id;title;price\n1;oak lamp;1.299\n")
    items = ItemSource(path, decimal="comma", currency="EUR").items
    assert items is not None and items.frame.select("price", "currency").rows() == [(1299.0, "EUR")]
    asked = {"format": None, "map": None, "skip_bad": 0, "decimal": None, "currency": None}
    with pytest.raises(ValueError, match="say --decimal point or --decimal comma"):
        _documents(path, asked)
    kind, texts = _documents(path, asked | {"decimal": "comma"})
    assert kind == "items" and any("price 1299" in text for text in texts[0])


def test_signs_stand_for_codes_that_exist() -> None:
    for codes in (*SIGNS.values(), *UNDECIDED.values()):
        assert set(codes) <= CODES
    assert {currency_of(code.lower()) for code in CODES} == CODES
