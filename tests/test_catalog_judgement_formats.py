"""Judgements as other tools write them: each file is told by itself and gives the right labels, or one message."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from goodrate.catalog.judgements import Judgements, read_judgements
from goodrate.scale import GRADED_0_3

TOPICS = "1\tdesk lamp\n2\tred rug\n"
BOTH = {"1": {"B1": 3, "B2": 0}, "2": {"B1": 2}}
TEXTS = {"1": "desk lamp", "2": "red rug"}
BY_TEXT = {"desk lamp": {"B1": 3, "B2": 0}, "red rug": {"B1": 2}}


@pytest.fixture
def read(tmp_path: Path):
    """Write a file of that name and read its judgements."""

    def call(name: str, content: str | object, **how: object) -> Judgements:
        (tmp_path / "topics.tsv").write_text(TOPICS)
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text)
        if how.get("queries") == "topics.tsv":
            how["queries"] = str(tmp_path / "topics.tsv")
        return read_judgements(tmp_path / name, **how)  # type: ignore[arg-type]

    return call


QRELS = {
    "blanks.txt": "1 0 B1 3\n1 0 B2 0\n\n2  Q0  B1  2\n",
    "tabs.qrels": "1\t0\tB1\t3\n1\t0\tB2\t0\n2\t0\tB1\t2\n",
    "plain": "1 0 B1 3\r\n1 0 B2 0\r\n2 0 B1 2\r\n",
    "tabs.tsv": "1\t0\tB1\t3\n1\t0\tB2\t0\n2\t0\tB1\t2\n",
    "comma.csv": "1,0,B1,3\n1,0,B2,0\n2,0,B1,2\n",
    "header.tsv": "query_id\titer\tdocid\trating\n1\t0\tB1\t3\n1\t0\tB2\t0\n2\t0\tB1\t2\n",
    "header.csv": "query_id,iter,docid,rating\n1,0,B1,3\n1,0,B2,0\n2,0,B1,2\n",
    "header.txt": "query_id iter docid rating\n1 0 B1 3\n1 0 B2 0\n2 0 B1 2\n",
    "quotes.csv": '"query_id","iter","docid","rating"\n1,0,"B1",3\n1,0,"B2",0\n2,0,"B1",2\n',
    "bare_quotes.csv": '1,0,"B1",3\n1,0,"B2",0\n2,0,"B1",2\n',
    "beir.tsv": "query-id\tcorpus-id\tscore\n1\tB1\t3\n1\tB2\t0\n2\tB1\t2\n",
}


@pytest.mark.parametrize("name", QRELS)
def test_trec_qrels_with_their_queries(read, name: str) -> None:
    judged = read(name, QRELS[name], queries="topics.tsv")
    assert (judged.qrels(), judged.queries(), judged.scale) == (BOTH, TEXTS, GRADED_0_3)
    assert judged.notes[0] == "read as trec (--judgements-format says otherwise)"


@pytest.mark.parametrize("name", QRELS)
def test_query_ids_are_never_searched_for_as_texts(read, name: str) -> None:
    """The header query_id iter docid rating, or ids alone, is no list of queries '1', '2' or 'query_id'."""
    with pytest.raises(ValueError, match=r"has query ids \('1', '2'\) and no query texts: name the file .*--queries"):
        read(name, QRELS[name])
    assert read(name, QRELS[name], queries="ids").queries() == {"1": "1", "2": "2"}  # somebody said so


def test_ids_with_blanks_are_texts_and_that_is_said(read) -> None:
    judged = read("texts.tsv", "desk lamp\t0\tB1\t3\ndesk lamp\t0\tB2\t0\nred rug\t0\tB1\t2\n")
    assert judged.qrels() == BY_TEXT
    assert judged.notes[-1].endswith("texts.tsv: the query ids are taken as the query texts")


def test_what_is_wrong_in_qrels_is_named(read, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        read("bad.txt", "1 0 B1 3\n1 0 B2\n2 0 B1 9\n3 0 B1 0\n", scale=GRADED_0_3, queries="topics.tsv")
    text = str(caught.value)
    assert "row 2, column (the whole row): expected 4 fields (query id, 0, item id, rating), found 3" in text
    assert "row 3, column label: expected one of 0, 1, 2, 3 (graded_0_3), found '9'" in text
    assert f"row 4, column query: expected query_id '3' to have a text in {tmp_path / 'topics.tsv'}, found none" in text
    with pytest.raises(FileNotFoundError, match="no such file: nowhere.tsv"):
        read("good.txt", "1 0 B1 3\n", scale=GRADED_0_3, queries="nowhere.tsv")
    with pytest.raises(ValueError, match="--queries gives the texts of query ids; .* has texts, in 'query'"):
        read("own.csv", "query,item_id,label\nlamp,1,related\n", queries="topics.tsv")
    with pytest.raises(ValueError, match="a file in the format trec has its own"):
        read("good.txt", "1 0 B1 3\n", format="trec", mapping={"label": "rating"})


@pytest.mark.parametrize(
    ("name", "queries"),
    [
        ("q.csv", "query_id,query\n1,desk lamp\n2,red rug\n"),
        ("q.jsonl", '{"_id": "1", "text": "desk lamp"}\n{"_id": "2", "text": "red rug"}\n'),
        ("q.txt", "1:desk lamp\n2: red rug\n"),
        ("q.topics", "1 desk lamp\n2 red rug\n"),
        (
            "q.trec",
            "<top>\n<num> Number: 1\n<title> desk lamp\n\n<desc> x\n</top>\n"
            "<top>\n<num> Number: 2\n<title> red rug\n<desc> y\n</top>\n",
        ),
    ],
)
def test_files_of_query_texts(tmp_path: Path, name: str, queries: str) -> None:
    (tmp_path / "a.qrels").write_text(QRELS["blanks.txt"])
    (tmp_path / name).write_text(queries)
    assert read_judgements(tmp_path / "a.qrels", queries=str(tmp_path / name)).queries() == TEXTS


def test_an_id_with_two_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.qrels").write_text("1 0 B1 3\n1 0 B2 0\n")
    (tmp_path / "q.tsv").write_text("1\tdesk lamp\n1\tred rug\n")
    with pytest.raises(ValueError, match="two texts for query_id '1'"):
        read_judgements(tmp_path / "a.qrels", queries=str(tmp_path / "q.tsv"))


def test_quepid_exports(read) -> None:
    basic = "query,docid,rating\ndesk lamp,B1,3.0\nsofa\ndesk lamp,B2,0.0\ndesk lamp,B3,\n red rug,B1,2.0\n"
    judged = read("basic.csv", basic)
    assert judged.qrels() == BY_TEXT  # sofa was rated by nobody, B3 neither
    assert judged.notes[0].startswith("read as quepid") and "2 of 5 ratings are blank: unrated" in judged.notes[2]
    detailed = (
        "Team Name,Case Name,Case ID,Query Text,Doc ID,Title,Rating,brand\n"
        "T,C,8,desk lamp,B1,Lamp,3,Kira\nT,C,8,desk lamp,B2,Rug,0,Velto\nT,C,8,red rug,B1,Lamp,2,Kira\n"
    )
    assert read("detailed.csv", detailed).qrels() == BY_TEXT
    ratings = [{"query": "desk lamp", "ratings": {"B1": 3, "B2": 0}}, {"query": "red rug", "ratings": {"B1": 2}}]
    assert read("list.json", ratings).qrels() == read("object.json", {"queries": ratings}).qrels() == BY_TEXT
    with pytest.raises(ValueError, match="has 1 bad row.*\n.*row 3.*3 fields, found 2"):  # that is no query alone
        read("odd.csv", "query,docid,rating\ndesk lamp,B1,3\nsofa,B1\ndesk lamp,B2,0\n")


def test_learning_to_rank_files(read) -> None:
    new = "3.0 qid:1 # B1 desk lamp\n0.0 qid:1 # B2 desk lamp\n2.0 qid:2 # B1 red rug\n"
    old = '3    qid:1 #    B1; "desk lamp"\n0    qid:1 #    B2; "desk lamp"\n2    qid:2 #    B1; "red rug"\n'
    features = "3 qid:1 1:0.5 2:7 # B1 desk lamp\n0 qid:1 1:0.1 2:1 # B2 desk lamp\n2 qid:2 1:0 2:2 # B1 red rug\n"
    for text in (new, old, features):
        judged = read("ltr.txt", text)
        assert (judged.qrels(), judged.queries()) == (BOTH, TEXTS)
    bare = "3 qid:1 # B1\n0 qid:1 # B2\n2 qid:2 # B1\n"
    assert read("bare.txt", bare, queries="topics.tsv").queries() == TEXTS
    with pytest.raises(ValueError, match="row 2, .*expected rating qid:ID # item id"):
        read("broken.txt", "3 qid:1 # B1 lamp\n0 qid:1 B2\n", scale=GRADED_0_3)


def test_rre_ratings_in_both_forms(read) -> None:
    by_gain = [
        {"placeholders": {"$query": "desk lamp"}, "relevant_documents": {"3": ["B1"], "0": ["B2"]}},
        {"placeholders": {"$query": "red rug"}, "relevant_documents": {"2": ["B1"]}},
    ]
    assert read("quepid.json", {"id_field": "id", "index": "i", "queries": by_gain}).qrels() == BY_TEXT
    grouped = {
        "index": "i",
        "topics": [
            {
                "description": "light",
                "query_groups": [
                    {
                        "name": "lamps",
                        "queries": [
                            {"template": "t.json", "placeholders": {"$q": "desk lamp", "$lang": "en"}},
                            {"template": "t.json", "placeholders": {"$q": "lamp desk", "$lang": "en"}},
                        ],
                        "relevant_documents": {"B1": {"gain": 3}, "B2": {"gain": 0}},
                    }
                ],
            }
        ],
    }
    with pytest.raises(ValueError, match=r"query 1 of group 1: which placeholder .*query=\$NAME.*\$q, \$lang"):
        read("topics.json", grouped)
    named = read("topics.json", grouped, mapping={"query": "$q"})
    assert named.qrels() == {"desk lamp": {"B1": 3, "B2": 0}, "lamp desk": {"B1": 3, "B2": 0}}
    with pytest.raises(ValueError, match='relevant_documents: expected an object such as {"3": .*found a list'):
        read("bad.json", {"queries": [{"placeholders": {"$query": "x"}, "relevant_documents": ["B1"]}]})


def test_search_relevance_workbench_judgements(read) -> None:
    lists = [
        {"query": "desk lamp", "ratings": [{"docId": "B1", "rating": "100.000"}, {"docId": "B2", "rating": "0.000"}]},
        {"query": "red rug", "ratings": [{"docId": "B1", "rating": "10.000"}, {"docId": "B9", "rating": None}]},
    ]
    judged = read("srw.json", {"name": "n", "type": "IMPORT_JUDGMENT", "judgmentRatings": lists})
    assert (judged.qrels(), judged.scale.name) == (BY_TEXT, "esci") and judged.read.unrated == 1
    answer = {"hits": {"hits": [{"_id": "j", "_source": {"judgmentRatings": lists}}]}}
    assert read("answer.json", answer).qrels() == BY_TEXT
    with pytest.raises(
        ValueError, match="judgmentRatings 1, ratings: expected a list of docId and rating, found nothing"
    ):
        read("bad.json", {"judgmentRatings": [{"query": "lamp"}]})


RATED = {"1": [("B1", 3), ("B2", 0)], "2": [("B1", 2)]}


def requests(*bodies: dict[str, object]) -> dict[str, object]:
    ratings = [[{"_index": "shop", "_id": i, "rating": r} for i, r in rated] for rated in RATED.values()]
    return {"requests": [{"id": i, **b, "ratings": r} for i, b, r in zip(RATED, bodies, ratings, strict=True)]}


def test_rank_eval_requests(read) -> None:
    plain = {"request": {"query": {"match": {"title": "desk lamp"}}}}
    nested = {
        "request": {
            "query": {
                "bool": {
                    "must": [{"multi_match": {"query": "red rug", "fields": ["title"]}}],
                    "should": [{"match_phrase": {"title": {"query": "red rug", "boost": 2}}}],
                    "must_not": [{"match": {"title": "used"}}],
                    "filter": [{"match": {"brand": "Kira"}}],
                }
            }
        }
    }
    judged = read("rank_eval.json", {**requests(plain, nested), "metric": {"dcg": {"k": 10}}})
    assert (judged.qrels(), judged.queries()) == (BOTH, TEXTS)
    templates = requests(
        {"template_id": "t", "params": {"query_string": "desk lamp", "lang": "en"}},
        {"template_id": "t", "params": {"query_string": "red rug", "lang": "en"}},
    )
    assert read("templates.json", templates).queries() == TEXTS
    foreign = requests(
        {"template_id": "t", "params": {"suche": "desk lamp", "lang": "en"}},
        {"template_id": "t", "params": {"suche": "red rug", "lang": "en"}},
    )
    message = "requests, id '1' searches for 'desk lamp' and 'en': which is the query. --map query=PARAMETER"
    with pytest.raises(ValueError, match=message):
        read("foreign.json", foreign)
    assert read("foreign.json", foreign, mapping={"query": "suche"}).queries() == TEXTS
    assert read("foreign.json", foreign, queries="topics.tsv").queries() == TEXTS
    with pytest.raises(ValueError, match="id '1' searches for no text"):
        read("none.json", requests({"request": {"query": {"match_all": {}}}}, plain))


def test_lists_of_pairs_and_unknown_objects(read) -> None:
    pairs = [{"query": q, "item_id": i, "label": r} for q, items in BY_TEXT.items() for i, r in items.items()]
    assert read("pairs.json", pairs).qrels() == BY_TEXT
    with pytest.raises(ValueError, match="an object with the keys rows; expected the judgements of a known tool"):
        read("rows.json", {"rows": []})
    with pytest.raises(ValueError, match="judgements.json.*has no judgement in it"):
        read("judgements.json", {"judgmentRatings": []})
    with pytest.raises(ValueError, match="unknown format 'trek'; accepted: esci, wands, chorus, quepid, trec"):
        read("pairs.json", pairs, format="trek")


def test_blank_labels_are_unrated_and_not_zero(read) -> None:
    judged = read("blank.csv", "query,item_id,label\nlamp,a,3\nlamp,b,\nlamp,c,NaN\nlamp,d,0\nrug,e,\n")
    assert judged.qrels() == {"lamp": {"a": 3, "d": 0}}
    assert (judged.read.unrated, judged.read.ratings_read, judged.skipped) == (3, 5, ())
    assert "3 of 5 ratings are blank: unrated, which is no label" in judged.notes
    with pytest.raises(ValueError, match="all 1 ratings are blank; expected labels in 'label'"):
        read("all.csv", "query,item_id,label\nlamp,a,\n")


def test_packed_files(tmp_path: Path) -> None:
    (tmp_path / "topics.tsv").write_text(TOPICS)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(QRELS["blanks.txt"].encode(), mtime=0))
    assert read_judgements(tmp_path / "a.txt.gz", queries=str(tmp_path / "topics.tsv")).qrels() == BOTH
