"""Every reader of a file that people bring, with a sound file that is broken in a thousand ways."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

ITEMS = [
    {"id": "a1", "title": "red lamp", "price": "10,50 EUR", "brand": "Kira", "colour": "red"},
    {"id": "a2", "title": "Stuhl \"Eiche\", 2 m", "price": "1.299", "brand": "", "colour": "brown; oak"},
]  # fmt: skip
LABELS = [{"query": "red lamp", "item_id": "a1", "label": "4"}, {"query": "stuhl", "item_id": "a2", "label": "2"}]
FEED = """<?xml version="1.0"?><rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel><title>x</title>
<item><g:id>a1</g:id><g:title>red lamp</g:title><g:price>10.50 EUR</g:price><g:brand>Kira</g:brand></item>
<item><g:id>a2</g:id><g:title>chair</g:title><g:price>5 EUR</g:price></item></channel></rss>"""
JUDGE = {"kind": "lm", "scale": "four_level", "label_token_ids": [1, 2, 3, 4], "stop_token_id": 0, "template": "nano"}
RULES = """scale = "four_level"
[columns]
category = ["same", "other"]
[[rules]]
id = "r"
when.category = ["other"]
label = "irrelevant"
because = "another kind"
[[rules]]
id = "s"
when = {}
label = "excellent"
because = "all met"
"""
SCALE = 'name = "mine"\nlabels = ["bad", "good"]\ngains = [0, 1]\npositive = ["good"]\n'
EVENTS = [{"query": "lamp", "item_id": "a1", "position": 1, "clicked": True, "time": "2026-01-01T10:00:00Z"}]


def _csv(rows: list[dict[str, Any]], comma: str = ",") -> bytes:
    quoted = ['"' + str(value).replace('"', '""') + '"' for row in rows for value in row.values()]
    width = len(rows[0])
    lines = [comma.join(rows[0])] + [comma.join(quoted[n : n + width]) for n in range(0, len(quoted), width)]
    return ("\n".join(lines) + "\n").encode()


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    import io

    import polars as pl

    buffer = io.BytesIO()
    pl.DataFrame(rows).write_parquet(buffer)
    return buffer.getvalue()


def _zst(data: bytes) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def _workbook() -> bytes:
    from xlsx_files import workbook

    return workbook({"items": [["id", "title", "price"], ["a1", "red lamp", 10.5], ["a2", "chair", 5]]})


def _catalog(path: Path, **more: Any) -> Any:
    from goodrate.api.reading import read_catalog

    return read_catalog(path, **more)


def _judgements(path: Path) -> Any:
    from goodrate.api.reading import read_judgements

    return read_judgements(path, scale="four_level", **({"queries": "ids"} if path.suffix == ".qrels" else {}))


def _card(path: Path) -> Any:
    from goodrate.relevance.judge_card import read_judge_card

    return read_judge_card(path.parent)


def _impressions(path: Path) -> Any:
    from goodrate.api.events import read_impressions

    return read_impressions([path])


def _config(path: Path) -> Any:
    from goodrate.recipes import judge_sft
    from goodrate.settings import load

    return load(judge_sft.Settings, path)


def _called(module: str, name: str) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        import importlib

        return getattr(importlib.import_module(module), name)(path)

    return read


QRELS, RUN = b"q1 0 a1 4\nq1 0 a2 1\nq2 0 a1 2\n", b"q1 Q0 a1 1 9.5 mine\nq1 Q0 a2 2 8.5 mine\n"
Reader = tuple[str, Callable[[], bytes], Callable[[Path], Any]]
READERS: dict[str, Reader] = {
    "csv": ("items.csv", lambda: _csv(ITEMS), _catalog),
    "tsv": ("items.tsv", lambda: _csv(ITEMS, "\t"), _catalog),
    "jsonl": ("items.jsonl", lambda: _lines(ITEMS), _catalog),
    "json": ("items.json", lambda: json.dumps(ITEMS).encode(), _catalog),
    "parquet": ("items.parquet", lambda: _parquet(ITEMS), _catalog),
    "csv.gz": ("items.csv.gz", lambda: gzip.compress(_csv(ITEMS), mtime=0), _catalog),
    "jsonl.zst": ("items.jsonl.zst", lambda: _zst(_lines(ITEMS)), _catalog),
    "xlsx": ("items.xlsx", _workbook, _catalog),
    "merchant feed": ("feed.xml", FEED.encode, lambda path: _catalog(path, format="merchant")),
    "judgements": ("labels.csv", lambda: _csv(LABELS), _judgements),
    "qrels": ("labels.qrels", lambda: QRELS, _judgements),
    "run": ("mine.run", lambda: RUN, _called("goodrate.api.evaluating", "read_run")),
    "judge.json": ("judge.json", lambda: json.dumps(JUDGE, indent=1).encode(), _card),
    "config": ("own.toml", lambda: b'model = "nano"\nbatch_size = 8\n[fit]\nupdates = 3\n', _config),
    "rules": ("rules.toml", RULES.encode, _called("goodrate.relevance.rulebook", "load_rulebook")),
    "scale": ("scale.toml", SCALE.encode, _called("goodrate.scale", "read_scale")),
    "impressions": ("log.jsonl", lambda: _lines(EVENTS), _impressions),
    "synonyms": ("synonyms.csv", lambda: b"from,to\nsofa,couch\n", _called("goodrate.api.synonyms", "read_synonyms")),
    "queries": ("queries.csv", lambda: b"query\nlamp\n", _called("goodrate.api.understanding", "read_queries")),
    "ranking rules": ("rules.toml", lambda: b'[[boost]]\nname = "b"\nquery = "lamp"\nids = ["a1"]\nplaces = 2\n',
                      _called("goodrate.api.ranking", "read_ranking_rules")),
    "query log": ("log.csv", lambda: b"query,count\nlamp,3\n", _called("goodrate.api.synonyms", "read_query_log")),
    "contexts": ("contexts.jsonl", lambda: b'{"id":"c","query":"lamp","text":"a lamp"}\n',
                 _called("goodrate.relevance.context", "read_contexts")),
    "pairs": ("pairs.csv", lambda: b"query,item_text\nlamp,red lamp\n",
              _called("goodrate.relevance.pair_file", "read_pairs")),
}  # fmt: skip
PIECES = (
    b"", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\n", b"\r", b",", b"{", b"}", b"[" * 200, b"null", b"NaN",
    b"1e999", b"-0", b"9" * 60, b"\\ud800", b"<!ENTITY", b"&#0;", b"]]>", b"true", b"'", b"=", b"#", b"\t",
    b"\xf0\x9f\x92\xa1",
    b'"a":1,"a":2', b"inf", b"../../etc/passwd", b"=1+1",
)  # fmt: skip


def broken(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Data with edits: at a share of its length, so many bytes are replaced."""
    for share, length, piece in edits:
        at = int(share * len(data))
        data = data[:at] + piece + data[at + length :]
    return data


def fault_of(name: str, folder: Path, data: bytes) -> str | None:
    """What is wrong with how a reader takes a file; None for a value or a clear refusal."""
    file, _, read = READERS[name]
    path = folder / file
    path.write_bytes(data)
    try:
        read(path)
    except (ValueError, OSError) as error:
        said = str(error)
        named = file in said or folder.name in said
        plain = type(error) in (ValueError, FileNotFoundError, OSError) or "polars" not in type(error).__module__
        return None if named and plain else f"{type(error).__module__}.{type(error).__name__}: {said[:300]}"
    except BaseException as error:
        return f"{type(error).__module__}.{type(error).__name__}: {str(error)[:300]}"
    return None
