"""What hostile texts, files and addresses may cost and reach; and what the source must not hold."""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from api_server import whole_app
from fastapi.testclient import TestClient

import goodrate
from goodrate.api.index import Index
from goodrate.catalog.items import Catalog
from goodrate.catalog.tables import write_table
from goodrate.retrieval.search import MAX_QUERY
from goodrate.serving.limits import Limits
from goodrate.serving.parts import Parts

SOURCE = Path(goodrate.__file__).parent
ROOT = SOURCE.parents[1]
SECONDS = 3.0  # CPU that one hostile text may cost, on any machine; most cost milliseconds


# ---- texts that could cost seconds


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    titles = [f"red steel lamp {n} {'a' * 60}" for n in range(300)]
    frame = pl.DataFrame(
        {"id": [f"i{n}" for n in range(300)], "title": titles, "price": [float(n) for n in range(300)]}
    )
    return Index.create(tmp_path_factory.mktemp("security") / "ix", Catalog(frame))


HOSTILE_FILTERS = {
    "parentheses": "(" * 4000 + "price > 1" + ")" * 4000,
    "nots": "NOT " * 2000 + "price > 1",
    "nesting": "(price > 1 AND (price > 2 OR " * 300 + "price > 3" + "))" * 300,
    "a long chain": " OR ".join(f"price = {n}" for n in range(700)),
    "ten thousand values": f"price IN ({', '.join(map(str, range(10_000)))})",
    "as many as fit": f"price IN ({', '.join(map(str, range(2000)))})",
    "wildcards": "title LIKE '" + "%a" * 3000 + "b'",
    "few wildcards that match slowly": "title LIKE '" + "%a" * 45 + "%b'",
    "an expression": "title ~ '(a+)+$'",
    "a function": "regexp_match(title, '(a+)+b')",
    "a subquery": "id IN (SELECT id FROM items)",
    "two statements": "price > 1; DROP TABLE items",
    "a comment": "price > 1 -- ' OR 1=1",
    "an open quote": "title = 'a" + "''" * 4000,
    "digits": "price > " + "9" * 9000,
    "nothing of ours": "\x00\u202e\ud7ff' OR '1'='1",
}


@pytest.mark.parametrize("where", HOSTILE_FILTERS.values(), ids=HOSTILE_FILTERS)
def test_a_filter_costs_no_seconds(index: Index, where: str) -> None:
    begun = time.process_time()
    try:
        index.search("lamp", where=where, mode="lexical")
    except ValueError as error:
        assert len(str(error)) < 1000 and "\n" not in str(error).strip()
    assert time.process_time() - begun < SECONDS
    assert len(index.search("lamp", k=3, mode="lexical").results) == 3


HOSTILE_QUERIES = {
    "many words": " ".join(f"w{n}" for n in range(400)),
    "one long word": "a" * 2000,
    "exclusions": "lamp " + "without red " * 160,
    "prices": "lamp under 5 " * 150,
    "signs": "\"'()[]{}*?~^:+-&|!\\/ " * 80,
    "marks": "e\u0301\u0302\u0303" * 500,
    "one word again": "lamp " * 400,
}


@pytest.mark.parametrize("query", HOSTILE_QUERIES.values(), ids=HOSTILE_QUERIES)
def test_a_query_costs_no_seconds(index: Index, query: str) -> None:
    assert 1500 < len(query) <= MAX_QUERY
    begun = time.process_time()
    index.search(query, k=5, mode="lexical")
    index.searcher.suggest(query, 5)
    assert time.process_time() - begun < SECONDS
    with pytest.raises(ValueError, match=r"a query of [0-9,]+ characters; at most 2,000 are searched for"):
        index.search(query * 2, k=5, mode="lexical")


# ---- the server


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    yield TestClient(whole_app(tmp_path_factory.mktemp("served")))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/search", {"query": "a" * 501}),
        ("/search", {"query": "a", "k": 201}),
        ("/search", {"query": "a", "where": "x" * 10_001}),
        ("/search", {"query": "a", "facets": ["brand"] * 51}),
        ("/judge", {"pairs": [{"query": "a", "item_text": "b"}] * 1001}),
        ("/judge", {"pairs": [{"query": "a", "item_text": "b" * 20_001}]}),
        ("/rerank", {"query": "a", "documents": ["b"] * 1001}),
        ("/clicks", {"sessions": [{"query": "a", "shown": [], "clicked": []}] * 101}),
    ],
)
def test_more_than_the_limits_is_refused(client: TestClient, path: str, body: dict[str, Any]) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code in (400, 422) and len(answer.text) < 5000


def test_a_long_body_is_refused(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    assert client.post("/search", content=b" " * (Limits().body + 1), headers=headers).status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml", "/..%2f..%2fpyproject.toml", "/%2e%2e/%2e%2e/http.py", "/compare/..%2f..%2f..%2fhttp.py",
        "//etc/passwd", "/%2fetc%2fpasswd", "/page.js%00.html", "/..%5c..%5chttp.py", "/....//....//http.py",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_page(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code in (400, 404) and "def create_app" not in answer.text and "root:" not in answer.text


@pytest.mark.parametrize("item", ["../../etc/passwd", "/etc/passwd", "..\\x", "a1' OR '1'='1", "\x00", "%2e%2e"])
def test_an_item_id_is_never_a_path_or_a_condition(client: TestClient, item: str) -> None:
    answer = client.post("/explain", json={"query": "a", "item_id": item})
    assert answer.status_code == 404 and "root:" not in answer.text


def test_another_host_and_pages_of_other_sites_are_refused() -> None:
    from goodrate.serving.access import Access
    from goodrate.serving.http import create_app
    from serving_shop import fake_pipeline

    guarded = TestClient(create_app(fake_pipeline(), Parts(access=Access(hosts=("shop.example",)))))
    assert guarded.get("/healthz", headers={"host": "evil.example"}).status_code == 421
    asked = {"host": "shop.example", "origin": "https://evil.example"}
    assert guarded.post("/search", json={"query": "a"}, headers=asked).status_code == 403


# ---- what is written


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+1", "-1+cmd", "@SUM(A1)", "\t=1", "\r=1", "'=1"])
def test_no_cell_of_any_written_csv_is_a_formula(text: str, tmp_path: Path) -> None:
    write_table(tmp_path / "out.csv", pl.DataFrame({"query": [text], "reason": [text], "n": [-1]}))
    cells = pl.read_csv(tmp_path / "out.csv", infer_schema=False).row(0)
    assert cells[:2] == (f"'{text}",) * 2 and cells[2] == "-1"
    write_table(tmp_path / "out.jsonl", pl.DataFrame({"query": [text]}))
    assert pl.read_ndjson(tmp_path / "out.jsonl")["query"].to_list() == [text]


def test_every_csv_is_written_with_marked_cells() -> None:
    """But those of the embedded shop, whose words are ours."""
    writer = re.compile(r"[^\n]*(?:write_csv|csv\.writer|DictWriter|to_csv)[^\n]*")
    files = {str(path.relative_to(SOURCE)): path.read_text() for path in SOURCE.rglob("*.py")}
    lines = {name: found for name, text in files.items() if (found := writer.findall(text))}
    ours = {name: found for name, found in lines.items() if not name.startswith("shop/")}
    assert "catalog/tables.py" in ours
    assert [name for name, found in ours.items() if not all("marked(" in line for line in found)] == []


# ---- the source


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call with the name it is written by."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> Any:
    return next((getattr(one.value, "value", "?") for one in call.keywords if one.arg == name), None)


def faults_of(text: str) -> list[str]:
    """What a source file does that a file of somebody else could use to run code."""
    tree, found = ast.parse(text), []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [
            f"import of {n}" for n in names if n.split(".")[0] in ("pickle", "dill", "cloudpickle", "shelve", "marshal")
        ]
    for name, call in calls(tree):
        if name == "torch.load" and keyword(call, "weights_only") is not True:
            found.append("torch.load without weights_only=True")
        if keyword(call, "trust_remote_code") not in (None, False):
            found.append("trust_remote_code")
        if name in ("np.load", "numpy.load") and keyword(call, "allow_pickle") not in (None, False):
            found.append("np.load with allow_pickle")
        if keyword(call, "shell") not in (None, False) or name in (
            "os.system",
            "os.popen",
            "eval",
            "exec",
            "yaml.load",
        ):
            found.append(f"{name}: code or a shell")
        if name.endswith("Environment") and keyword(call, "autoescape") is not True:
            found.append("a template without autoescape")
    return found


@pytest.mark.parametrize("folder", ["src", "benchmarks"])
def test_no_file_of_others_can_run_code(folder: str) -> None:
    files = sorted((ROOT / folder).rglob("*.py"))
    assert len(files) > 20
    assert {str(f.relative_to(ROOT)): faults for f in files if (faults := faults_of(f.read_text()))} == {}


def test_the_check_of_the_source_finds_what_it_looks_for() -> None:
    bad = "import pickle\ntorch.load(p)\nnp.load(p, allow_pickle=True)\nf(trust_remote_code=True)\nrun(x, shell=True)\n"
    assert len(faults_of(bad + "eval(x)\njinja2.Environment()\n")) == 7


def test_pages_put_texts_in_as_texts() -> None:
    sinks = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|javascript:"
    )
    pages = [*SOURCE.rglob("*.js"), *SOURCE.rglob("*.html")]
    assert len(pages) > 10
    assert [path.name for path in pages if sinks.search(path.read_text())] == []
    assert [path.name for path in SOURCE.rglob("*.html") if re.search(r"\|\s*safe\b", path.read_text())] == []


def test_an_audit_that_could_look_nothing_up_is_no_audit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import audited

    def told(*packages: dict[str, object]) -> int:
        (tmp_path / "audit.json").write_text(json.dumps({"dependencies": packages, "fixes": []}))
        return audited.main(tmp_path / "audit.json")

    known = {"name": "torch", "version": "2.13.0", "vulns": []}
    assert told(known, {"name": "goodrate", "skip_reason": "not on PyPI"}) == 0
    assert told(known, {"name": "polars", "skip_reason": "Dependency not found on PyPI"}) == 1
    assert "not looked up: polars" in capsys.readouterr().out
