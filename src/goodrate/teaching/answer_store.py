"""Paid answers kept in SQLite, in the file of the verdicts: what was paid for once is never asked again."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from goodrate.relevance.verdict_store import key_batches, open_table
from goodrate.teaching.chat_endpoint import Answer, Message

TABLE = """CREATE TABLE IF NOT EXISTS answers (
    key TEXT NOT NULL, attempt INTEGER NOT NULL, text TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, finish TEXT NOT NULL, estimated INTEGER NOT NULL, written REAL NOT NULL,
    PRIMARY KEY (key, attempt)) WITHOUT ROWID"""
COLUMNS = "text, prompt_tokens, completion_tokens, finish, estimated"
KEPT = ("key", "attempt", *COLUMNS.split(", "))  # of an answer, beside when it was written


def answer_key(asked: Sequence[Mapping[str, str]], model: str, url: str, max_answer_tokens: int) -> str:
    """sha256 (64 hex) of all that decides an answer: the messages and who is asked."""
    content = [list(asked), model, url, max_answer_tokens]
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class AnswerStore:
    """Answers by key (what was asked, of whom) and attempt (0 = first), for many threads and processes at once."""

    def __init__(self, path: str | Path) -> None:
        """Raises ValueError when the file is no SQLite file."""
        self.path = Path(path)
        self._lock = threading.Lock()
        self._connection = open_table(self.path, TABLE)

    def __enter__(self) -> AnswerStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Everything put is already on disk."""
        self._connection.close()

    def get(self, key: str, attempt: int) -> Answer | None:
        """The kept answer, None when that was not asked yet."""
        with self._lock:
            row = self._connection.execute(
                f"SELECT {COLUMNS} FROM answers WHERE key = ? AND attempt = ?", (key, attempt)
            ).fetchone()
        if row is None:
            return None
        text, prompt, completion, finish, estimated = row
        return Answer(text, prompt, completion, finish, bool(estimated))

    def put(self, key: str, attempt: int, answer: Answer) -> None:
        """Keep an answer. One that is there stays: it is the one that others have read."""
        row = (key, attempt, answer.text, answer.prompt_tokens, answer.completion_tokens, answer.finish)
        self.put_rows([(*row, int(answer.estimated))])

    def put_rows(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Keep answers as another store's `rows` gives them, in one transaction. Those that are there stay."""
        now = time.time()
        marks = ", ".join("?" * (len(KEPT) + 1))
        with self._lock, self._connection:
            self._connection.executemany(
                f"INSERT OR IGNORE INTO answers VALUES ({marks})", [(*row, now) for row in rows]
            )

    def rows(self) -> list[tuple[Any, ...]]:
        """Every answer as the values of KEPT."""
        with self._lock:
            return self._connection.execute(f"SELECT {', '.join(KEPT)} FROM answers ORDER BY key, attempt").fetchall()

    def kept(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys to which there is an answer."""
        found: set[str] = set()
        for part in key_batches(list(dict.fromkeys(keys))):
            query = f"SELECT DISTINCT key FROM answers WHERE key IN ({','.join('?' * len(part))})"
            with self._lock:
                found.update(key for (key,) in self._connection.execute(query, part).fetchall())
        return found

    def spent(self, keys: Sequence[str]) -> tuple[int, int]:
        """Prompt and completion tokens of all kept answers to these keys."""
        prompt = completion = 0
        for part in key_batches(list(dict.fromkeys(keys))):
            marks = ",".join("?" * len(part))
            query = f"SELECT sum(prompt_tokens), sum(completion_tokens) FROM answers WHERE key IN ({marks})"
            with self._lock:
                tokens = self._connection.execute(query, part).fetchone()
            prompt, completion = prompt + (tokens[0] or 0), completion + (tokens[1] or 0)
        return prompt, completion


def unpaid(
    store: AnswerStore, prompts: Sequence[Sequence[Message]], model: str, url: str, max_answer_tokens: int
) -> list[Sequence[Message]]:
    """The distinct prompts to which no answer is kept."""
    by_key = {answer_key(prompt, model, url.rstrip("/"), max_answer_tokens): prompt for prompt in prompts}
    kept = store.kept(list(by_key))
    return [prompt for key, prompt in by_key.items() if key not in kept]
