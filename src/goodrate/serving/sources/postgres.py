"""PostgreSQL: a table with vectors (pgvector), or with full text alone."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from goodrate.serving.sources.protocol import Address, Candidate, SourceUnavailable

KNOWN = ("host", "table", "vector", "metric", "text", "language", "sslmode")
PORT = 5432
# operator of pgvector, and what of its distance is a score
METRICS = {"cosine": ("<=>", "1 - {}"), "l2": ("<->", "- {}"), "inner": ("<#>", "- {}")}
SCORE = "goodrate_score"  # no column of a shop's own


class PostgresSource:
    """A table or view. host: the folder of a socket, in place of HOST:PORT. vector: the column of vectors, nearest
    first by metric (cosine, l2, inner), which needs the encoder that made them; text: columns that are searched by
    words instead, in a language that the database knows.
    """

    name, most = "postgresql", 10_000

    def __init__(self, address: Address, encoder: Any = None) -> None:
        """Raises ValueError when it is not said what is searched, or an encoder is missing."""
        own = address.own
        self._address, self._encoder = address, encoder
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[dict[str, Any]] | None = None
        if "table" not in own or ("vector" in own) == ("text" in own):
            raise ValueError(f"{address}: expected table=NAME, and either vector=COLUMN or text=COLUMN,COLUMN")
        if "vector" in own and encoder is None:
            raise ValueError(f"{address}: the query of a search by vectors is read by --encoder DIR, and there is none")
        if own.get("metric", "cosine") not in METRICS:
            raise ValueError(f"{address}: metric {own['metric']!r}; accepted: {', '.join(METRICS)}")
        self._id = sql.Identifier(own.get("id", "id"))
        self._table = sql.Identifier(*own["table"].split("."))
        self._hidden = {own.get("id", "id"), SCORE, *([own["vector"]] if "vector" in own else [])}

    def search(self, query: str, k: int) -> list[Candidate]:
        """By vectors or by words."""
        return self._by_vector(query, k) if "vector" in self._address.own else self._by_words(query, k)

    def fetch(self, ids: Sequence[str]) -> list[Candidate]:
        """By the column of the id."""
        asked = sql.SQL("SELECT *, 0 AS {score} FROM {table} WHERE {id}::text = ANY(%s)")
        return self._candidates(asked, [list(ids)])

    def count(self) -> int:
        """Of the whole table."""
        return int(self._rows(self._filled(sql.SQL("SELECT count(*) AS n FROM {table}")), [])[0]["n"])

    def _by_vector(self, query: str, k: int) -> list[Candidate]:
        operator, score = METRICS[self._address.own.get("metric", "cosine")]
        distance = sql.SQL("({} {} %s::vector)").format(
            sql.Identifier(self._address.own["vector"]), sql.SQL(operator)
        )  # fmt: skip
        given = "[" + ",".join(repr(float(one)) for one in self._encoder.encode_queries([query])[0]) + "]"
        asked = sql.SQL("SELECT *, {shown} AS {score} FROM {table} ORDER BY {distance} LIMIT %s")
        parts = {"shown": sql.SQL(score).format(distance), "distance": distance}
        return self._candidates(asked, [given, given, k], **parts)

    def _by_words(self, query: str, k: int) -> list[Candidate]:
        language = sql.Literal(self._address.own.get("language", "english"))
        columns = [sql.Identifier(name) for name in self._address.own["text"].split(",")]
        document = sql.SQL("to_tsvector({}::regconfig, concat_ws(' ', {}))").format(
            language, sql.SQL(", ").join(columns)
        )  # fmt: skip
        # any of the words: goodrate's judge tells the rest, and a shop's query names more than a title does
        words = sql.SQL("replace(plainto_tsquery({}::regconfig, %s)::text, '&', '|')::tsquery").format(language)
        asked = sql.SQL(
            "SELECT *, ts_rank({document}, {words}) AS {score} FROM {table} WHERE {document} @@ {words} "
            "ORDER BY {score} DESC, {id} LIMIT %s"
        )
        return self._candidates(asked, [query, query, k], document=document, words=words)

    def _candidates(self, asked: sql.SQL, given: list[Any], **parts: sql.Composable) -> list[Candidate]:
        key = self._address.own.get("id", "id")
        return [
            Candidate(
                str(row[key]),
                float(row[SCORE]),
                {name: _plain(value) for name, value in row.items() if name not in self._hidden},
            )  # fmt: skip
            for row in self._rows(self._filled(asked, **parts), given)
        ]

    def _filled(self, asked: sql.SQL, **parts: sql.Composable) -> sql.Composed:
        return asked.format(table=self._table, id=self._id, score=sql.Identifier(SCORE), **parts)

    def _rows(self, asked: sql.Composed, given: list[Any]) -> list[dict[str, Any]]:
        """Ask once more when the connection had been closed in between."""
        with self._lock:
            for attempt in (1, 2):
                try:
                    return self._connected().execute(asked, given).fetchall()
                except psycopg.Error as error:
                    gone = self._connection is None or self._connection.closed
                    if attempt == 2 or not gone:
                        raise SourceUnavailable(f"{self._address}: {str(error).strip()}") from error
        raise AssertionError("the second attempt returns or raises")

    def _connected(self) -> psycopg.Connection[dict[str, Any]]:
        if self._connection is None or self._connection.closed:
            at, own = self._address, self._address.own
            asked = {"host": at.host, "port": at.port, "dbname": at.path, "user": at.user, "password": at.password}
            asked |= {"sslmode": own["sslmode"]} if "sslmode" in own else {}
            self._connection = psycopg.connect(
                **{name: value for name, value in asked.items() if value != ""},  # type: ignore[arg-type]
                autocommit=True, connect_timeout=10, row_factory=dict_row,
                options="-c default_transaction_read_only=on -c statement_timeout=30000",
            )  # fmt: skip
        return self._connection


def _plain(value: Any) -> Any:
    """A value as JSON has it: numerics as numbers, times and the like as texts."""
    if isinstance(value, Decimal):
        return float(value)
    return value if isinstance(value, str | int | float | bool | list | dict) or value is None else str(value)
