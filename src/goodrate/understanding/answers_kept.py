"""What a describer said, on disk by the hash of what it was asked: a line a picture, appended batch by batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from goodrate.run_folder import write_atomic
from goodrate.strict_json import dumps, parse

Answer = dict[str, tuple[str, float]]  # attribute -> (value, confidence)


class KeptAnswers:
    """Answers by key. path: the file, made when there is something to keep; None = they are kept in memory alone.

    A last line that was cut off is written over. Raises ValueError naming file and line for anything else.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._answers: dict[str, Answer] = {}
        if path is not None and path.is_file():
            lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
            self._read(lines[:-1], path)
            if lines[-1]:
                self._rewrite()

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def __getitem__(self, key: str) -> Answer:
        return self._answers[key]

    def add(self, answers: Mapping[str, Answer]) -> None:
        """Keep some more; they are on disk when this returns."""
        self._answers |= answers
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(_line(key, answer) for key, answer in answers.items())

    def keep(self, keys: Collection[str]) -> None:
        """Forget all others."""
        wanted = set(keys)
        if wanted != set(self._answers):
            self._answers = {key: answer for key, answer in self._answers.items() if key in wanted}
            self._rewrite()

    def _rewrite(self) -> None:
        if self._path is not None:
            write_atomic(self._path, "".join(_line(key, answer) for key, answer in self._answers.items()))

    def _read(self, lines: list[str], path: Path) -> None:
        for number, line in enumerate(lines, start=1):
            try:
                read = parse(line)
                guesses = {name: (str(value), float(chance)) for name, value, chance in read["guesses"]}
                self._answers[str(read["key"])] = guesses
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}: expected what goodrate understand wrote ({error}); remove the file to ask "
                    "about all items anew"
                ) from None


def _line(key: str, answer: Answer) -> str:
    guesses = [[name, value, chance] for name, (value, chance) in answer.items()]
    return dumps({"key": key, "guesses": guesses}) + "\n"
