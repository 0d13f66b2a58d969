"""Judgements as other tools write them (docs/data.md has the list): each layout is told by what the file holds.

Lines: TREC qrels, BEIR's with a header, Quepid's LTR export. JSON: Quepid, RRE, OpenSearch's Search Relevance
Workbench, Elasticsearch's and OpenSearch's _rank_eval, lists of queries with their judgements, lists of pairs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from goodrate.catalog.problems import BadRow
from goodrate.catalog.tables import EXTRAS, READERS, ROW, WHOLE_ROW, RawTable, read_table, records_table
from goodrate.catalog.trec import SIGNS, ending, field_table, fields_of, file_text, numbered_lines, separator_of
from goodrate.strict_json import kind, parse

Records = Iterator[dict[str, Any]]
QUOTED = (".csv", ".tsv")  # whose fields may stand in quotes
QRELS = ("query_id", "iteration", "item_id", "label")
IN_WORDS = "query id, 0, item id, rating"
# What the fields of a header are, in the files that have query ids and no texts.
ROLES = {
    **dict.fromkeys(("query_id", "query-id", "queryid", "qid", "topic", "topic_id"), "query_id"),
    **dict.fromkeys(("iter", "iteration", "q0", "0"), "iteration"),
    **dict.fromkeys(("docid", "doc_id", "doc-id", "docno", "corpus-id", "corpus_id", "item_id"), "item_id"),
    **dict.fromkeys(("rating", "rel", "relevance", "label", "grade", "score", "judgment", "judgement"), "label"),
}  # fmt: skip
LTR = r'^\s*(?<label>\S+)\s+qid:(?<query_id>\S+)[^#]*#\s*(?<item_id>[^\s;]+);?\s*"?(?<query>.*?)"?\s*$'
FULL_TEXT = {
    "match", "match_phrase", "match_phrase_prefix", "match_bool_prefix", "multi_match", "query_string",
    "simple_query_string", "combined_fields",
}  # fmt: skip
TEXT_PARAMS = ("query", "query_string", "query_text", "queryText", "search_text", "text", "q", "keywords")
UNRATED_QUERY = re.compile(r"^3 fields, found 1$")


@dataclass(frozen=True)
class Wanted:
    """What a file alone does not say. query: the placeholder or parameter that is the query's text, None = told by
    itself. texts_elsewhere: the texts of query ids are in another file."""

    query: str | None = None
    texts_elsewhere: bool = False


def told_format(path: Path) -> str | None:
    """The layout that a file is in by its content; None for a table with a header of its own, or a folder."""
    if not path.is_file():
        return None
    if ending(path) == ".json":
        return _told_json(path, _json(path))
    if ending(path) in READERS and ending(path) not in (*QUOTED, ".txt"):
        return None
    first = next(line for line in file_text(path).split("\n") if line.strip())
    if re.match(r"\s*\S+\s+qid:\S", first):
        return "ltr"
    if _header(first) is not None:
        return "trec"
    fields = fields_of(first, separator_of(first, len(QRELS)))
    bare = len(fields) == len(QRELS) and (fields[1].isdigit() or fields[1].lower() == "q0") and _is_number(fields[3])
    return "trec" if bare or ending(path) not in READERS else _told_header(first)


def _told_header(line: str) -> str | None:
    """Quepid's csv exports by their first columns."""
    plain = [name.strip('"') for name in fields_of(line, ",")]
    basic = plain[:3] in (["query", "docid", "rating"], ["query", "doc_id", "rating"])
    return "quepid" if basic or {"Query Text", "Doc ID", "Rating"} <= set(plain) else None


def _told_json(path: Path, value: Any) -> str | None:
    """The layout of a JSON value by its keys; None for a list of pairs or of queries with judgments."""
    value = _hit(value)
    if isinstance(value, Mapping):
        if "judgmentRatings" in value:
            return "srw"
        if isinstance(value.get("requests"), list):
            return "rank_eval"
        queries = value.get("queries")
        if {"topics", "query_groups"} & set(value) or (
            isinstance(queries, list) and _has(queries, "relevant_documents")
        ):
            return "rre"
        if isinstance(queries, list) and _has(queries, "ratings"):
            return "quepid_json"
        keys = ", ".join(list(value)[:8]) or "none"
        raise ValueError(
            f"{path}: an object with the keys {keys}; expected the judgements of a known tool: judgmentRatings "
            "(OpenSearch), requests (_rank_eval), queries, query_groups or topics (RRE, Quepid)"
        )
    return "quepid_json" if isinstance(value, list) and _has(value, "ratings") else None


def _hit(value: Any) -> Any:
    """The judgement list inside the answer of OpenSearch's API; any other value as it is."""
    hits = (
        value.get("hits", {}).get("hits")
        if isinstance(value, Mapping) and isinstance(value.get("hits"), dict)
        else None
    )
    return hits[0].get("_source", value) if isinstance(hits, list) and len(hits) == 1 else value


def _has(entries: list[Any], key: str) -> bool:
    return bool(entries) and isinstance(entries[0], Mapping) and key in entries[0]


def _json(path: Path) -> Any:
    return parse(file_text(path), path)


def judgement_table(path: Path, format: str | None, columns: set[str], wanted: Wanted) -> RawTable:
    """The rows of a file in one of FILE_FORMATS, or a table with a header. columns: those that are wanted of a table.

    A file in a foreign layout gives our columns (query_id, query, item_id, label), as far as it has them.
    """
    if format in FILE_FORMATS:
        table = FILE_FORMATS[format](path, wanted)
        if table.frame.is_empty() and not table.problems:
            raise ValueError(f"{path} has no judgement in it")
        return table
    if ending(path) == ".json" and path.is_file():
        return records_table(path, enumerate(_listed(path, _json(path)), start=1), columns)
    table = read_table(path, columns)
    return _without_unrated_queries(table) if format == "quepid" else table


def _without_unrated_queries(table: RawTable) -> RawTable:
    """Quepid writes a query that nobody rated as a line with its text alone: a row without a rating, no fault."""
    told = [bad for bad in table.problems if bad.column == WHOLE_ROW and UNRATED_QUERY.match(bad.expected)]
    rows = pl.DataFrame({ROW: [bad.row for bad in told]}, schema={ROW: pl.Int64})
    problems = tuple(bad for bad in table.problems if bad not in told)
    return replace(table, frame=pl.concat([table.frame, rows], how="diagonal").sort(ROW), problems=problems)


def _lines_table(path: Path, frame: pl.DataFrame, problems: list[BadRow]) -> RawTable:
    names = tuple(name for name in frame.columns if name != ROW)
    return RawTable(path, frame.with_columns(pl.lit("{}").alias(EXTRAS)), names, tuple(problems))


def _header(line: str) -> tuple[str | None, list[str]] | None:
    """The separator of a header of ids and ratings and what each field is; None for a line that is no such header."""
    for sign in SIGNS:
        roles = [ROLES.get(field.strip('"').lower(), "") for field in fields_of(line, sign)]
        if "" not in roles and {"query_id", "item_id", "label"} <= set(roles):
            return sign, roles
    return None


def _read_qrels(path: Path, wanted: Wanted) -> RawTable:
    """query id, 0, item id, rating, by tabs or blanks, with or without a header."""
    lines = numbered_lines(file_text(path))
    first = lines["line"][0]
    header = _header(first)
    if header is None:
        frame, problems = field_table(lines, QRELS, separator_of(first, len(QRELS)), IN_WORDS)
    elif ending(path) in QUOTED:
        return _named_by_role(path, [name.strip('"') for name in fields_of(first, header[0])], header[1])
    else:
        frame, problems = field_table(lines[1:], header[1], header[0], ", ".join(fields_of(first, header[0])))
    return _lines_table(path, frame.drop("iteration", strict=False), problems)


def _named_by_role(path: Path, names: list[str], roles: list[str]) -> RawTable:
    """A csv or tsv with a header of ids and ratings, its columns under our names."""
    table = read_table(path, set(names))
    ours = {name: role for name, role in zip(names, roles, strict=True) if role != "iteration"}
    return replace(table, frame=table.frame.select(ROW, EXTRAS, *ours).rename(ours), columns=tuple(ours.values()))


def _read_ltr(path: Path, wanted: Wanted) -> RawTable:
    """rating qid:7 # item query text, as Quepid and Elasticsearch's learning to rank write it."""
    lines = numbered_lines(file_text(path))
    found = lines.select(ROW, pl.col("line").str.extract_groups(LTR).struct.unnest())
    expected = "rating qid:ID # item id, and the query's text"
    problems = [BadRow(row, WHOLE_ROW, expected) for row in found.filter(pl.col("item_id").is_null())[ROW]]
    frame = found.drop_nulls("item_id")
    return _lines_table(path, frame.drop("query") if (frame["query"] == "").all() else frame, problems)


def _records(read: Callable[[Path, Any, Wanted], Records]) -> Callable[[Path, Wanted], RawTable]:
    """A reader of JSON from one that gives the pairs of its value."""

    def table(path: Path, wanted: Wanted) -> RawTable:
        columns = ("query_id", "query", "item_id", "label")
        return records_table(path, enumerate(read(path, _hit(_json(path)), wanted), start=1), columns)

    return table


def _entries(path: Path, value: Any, key: str) -> list[dict[str, Any]]:
    """The list of objects under a key. Raises ValueError naming the file, the key and the entry."""
    entries = value.get(key) if isinstance(value, Mapping) else value
    if not isinstance(entries, list):
        raise ValueError(f"{path}: expected a list of objects under {key!r}, found {kind(entries)}")
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise ValueError(f"{path}, {key} {number}: expected an object, found {kind(entry)}")
    return entries


def _need(path: Path, place: str, entry: Mapping[str, Any], key: str, type_: type, example: str) -> Any:
    """The value of a key. Raises ValueError naming file, place, key and an example."""
    if not isinstance(entry.get(key), type_):
        found = kind(entry[key]) if key in entry else "nothing"
        raise ValueError(f"{path}, {place}, {key}: expected {example}, found {found}")
    return entry[key]


def _quepid_pairs(path: Path, value: Any, wanted: Wanted) -> Records:
    """{"query": "lamp", "ratings": {"item": 3}} of each query."""
    for number, entry in enumerate(_entries(path, value, "queries"), start=1):
        ratings = _need(path, f"query {number}", entry, "ratings", dict, 'an object such as {"item": 3}')
        for item, label in ratings.items():
            yield {"query": entry.get("query"), "item_id": item, "label": label}


def _srw_pairs(path: Path, value: Any, wanted: Wanted) -> Records:
    """{"query": "lamp", "ratings": [{"docId": "item", "rating": "3.000"}]} of each query."""
    for number, entry in enumerate(_entries(path, value, "judgmentRatings"), start=1):
        ratings = _need(path, f"judgmentRatings {number}", entry, "ratings", list, "a list of docId and rating")
        for rated in ratings:
            rated = rated if isinstance(rated, dict) else {}
            yield {"query": entry.get("query"), "item_id": rated.get("docId"), "label": rated.get("rating")}


def _rre_pairs(path: Path, value: Any, wanted: Wanted) -> Records:
    """Queries, in groups and topics or by themselves, with relevant_documents: gain -> items, or item -> {gain}."""
    groups = [
        group
        for topic in ([value] if "topics" not in value else _entries(path, value, "topics"))
        for group in ([topic] if "query_groups" not in topic else _entries(path, topic, "query_groups"))
    ]
    for number, group in enumerate(groups, start=1):
        for place, query in enumerate(_entries(path, group, "queries"), start=1):
            where = f"query {place} of group {number}"
            owner = query if "relevant_documents" in query else group
            judged = _need(path, where, owner, "relevant_documents", dict, 'an object such as {"3": ["item"]}')
            text = _placeholder(path, where, query, wanted.query)
            yield from ({"query": text, "item_id": item, "label": gain} for item, gain in _gains(path, where, judged))


def _gains(path: Path, where: str, judged: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(item, gain) of both forms of relevant_documents."""
    for key, value in judged.items():
        if isinstance(value, list):
            yield from ((item, key) for item in value)
        elif isinstance(value, dict) and "gain" in value:
            yield key, value["gain"]
        else:
            raise ValueError(f'{path}, {where}, {key}: expected a list of items or {{"gain": 3}}, found {kind(value)}')


def _placeholder(path: Path, where: str, query: Mapping[str, Any], named: str | None) -> Any:
    """The text among the placeholders of an RRE query: the named one, $query, or the only one."""
    held = query.get("placeholders", {})
    name = named or ("$query" if "$query" in held else next(iter(held), "") if len(held) == 1 else "")
    if name not in held:
        listed = ", ".join(held) or "none"
        raise ValueError(
            f"{path}, {where}: which placeholder is the query? --map 'query=$NAME'; placeholders: {listed}"
        )
    return held[name]


def _rank_eval_pairs(path: Path, value: Any, wanted: Wanted) -> Records:
    """The ratings of each request; query: what its full-text clauses, or the parameters of its template, search for."""
    requests = _entries(path, value, "requests")
    asked = [[] if wanted.texts_elsewhere else _searched(entry, wanted.query) for entry in requests]
    for number, (entry, found) in enumerate(zip(requests, asked, strict=True), start=1):
        query_id = str(entry.get("id", number))
        if len(found) != 1 and not wanted.texts_elsewhere:
            listed = " and ".join(repr(text) for text in found) or "no text"
            raise ValueError(
                f"{path}, requests, id {query_id!r} searches for {listed}: which is the query? --map query=PARAMETER "
                "for one of a template, or --queries FILE with a text for each id (in training data.judgements_queries)"
            )
        text = {} if wanted.texts_elsewhere else {"query": found[0]}
        for rated in _need(path, f"requests {number}", entry, "ratings", list, "a list of _id and rating"):
            rated = rated if isinstance(rated, dict) else {}
            yield {"query_id": query_id, **text, "item_id": rated.get("_id"), "label": rated.get("rating")}


def _searched(entry: Mapping[str, Any], named: str | None) -> list[str]:
    """The distinct texts that a request searches for."""
    params = entry.get("params")
    if isinstance(params, dict):
        texts = {name: value for name, value in params.items() if isinstance(value, str)}
        known = [name for name in ([named] if named else TEXT_PARAMS) if name in texts]
        return [texts[known[0]]] if known else [] if named else list(dict.fromkeys(texts.values()))
    return list(dict.fromkeys(_clause_texts(entry.get("request"))))


def _clause_texts(query: Any) -> Iterator[str]:
    """The texts of the full-text clauses anywhere in a query, but in what it excludes."""
    if isinstance(query, list):
        for part in query:
            yield from _clause_texts(part)
    elif isinstance(query, dict):
        for name, body in query.items():
            if name in FULL_TEXT and isinstance(body, dict):
                yield from _text_of_clause(body)
            elif name not in ("must_not", "filter"):
                yield from _clause_texts(body)


def _text_of_clause(body: Mapping[str, Any]) -> Iterator[str]:
    """{"query": text} or {field: text} or {field: {"query": text}}."""
    if isinstance(body.get("query"), str):
        yield body["query"]
        return
    for value in body.values():
        text = value.get("query") if isinstance(value, dict) else value
        if isinstance(text, str):
            yield text


def _listed(path: Path, value: Any) -> Records:
    """Pairs of a list: of queries with judgments, or of the pairs themselves."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"{path} is not a list of objects with query and judgments, found {kind(value)}")
    nested = _has(value, "judgments")
    expected = 'expected an object such as {"query": "lamp", "judgments": [{"item_id": "a", "label": 4}]}'
    for number, entry in enumerate(value, start=1):
        judged = (entry.get("judgments") if nested else [{}]) if isinstance(entry, dict) else None
        if not isinstance(judged, list) or not all(isinstance(pair, dict) for pair in judged):
            raise ValueError(f"{path}, entry {number} of the list: {expected}")
        of_query = {name: held for name, held in entry.items() if name != "judgments"}
        yield from ({**of_query, **pair} for pair in judged)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


FILE_FORMATS: dict[str, Callable[[Path, Wanted], RawTable]] = {
    "trec": _read_qrels,
    "ltr": _read_ltr,
    "quepid_json": _records(_quepid_pairs),
    "srw": _records(_srw_pairs),
    "rre": _records(_rre_pairs),
    "rank_eval": _records(_rank_eval_pairs),
}
