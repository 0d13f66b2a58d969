"""Label query-item pairs with a language model behind an endpoint: what is asked, what it costs, how good it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.api.endpoints import Endpoint, opened_asker
from goodrate.api.judging import UNKNOWN_ITEM, ItemSource, fact_book, read_pair_file, require_facts
from goodrate.api.reading import Scale, read_judgements, scale_of
from goodrate.api.teaching import rule_book
from goodrate.text_file import read_text

if TYPE_CHECKING:
    import polars as pl

    from goodrate.catalog.judgements import Judgements
    from goodrate.evaluation.teacher_agreement import TeacherAgreement
    from goodrate.relevance.pair_file import PairFile
    from goodrate.relevance.pairs import Pair
    from goodrate.teaching.asking import Asker, Outcome, Progress
    from goodrate.teaching.label_answer import Labelled
    from goodrate.teaching.label_prompt import LabelPrompt

LIKELY_ANSWER = 60  # tokens: a label and 25 words
ANSWER_TOKENS = 300
OK = "ok"


@dataclass(frozen=True)
class Estimate:
    """What labelling will ask for. stored: distinct pairs whose answer is kept and free; requests: the others.

    answer_tokens: about as many; most_answer_tokens: at most, if every answer is as long as allowed. cost, most_cost:
    money for both; 0 without prices. What cannot be read is asked again, up to three times, and comes on top.
    """

    pairs: int
    stored: int
    requests: int
    prompt_tokens: int
    answer_tokens: int
    most_answer_tokens: int
    cost: float
    most_cost: float


@dataclass(frozen=True)
class LabelTask:
    """Pairs to label, and how they are asked about. people: label position of each pair, None where nobody labelled.

    gold: whether people's labels were given. skipped_gold: labels of people that no pair of the file has.
    """

    table: PairFile
    pairs: list[Pair]
    prompt: LabelPrompt
    people: list[int | None]
    gold: bool = False
    skipped_gold: int = 0

    @cached_property
    def messages(self) -> list[list[dict[str, str]]]:
        """What is asked about each pair."""
        return self.prompt.messages(self.pairs)

    @property
    def cut(self) -> int:
        """How many items are longer than what the model is given of them."""
        return self.prompt.cut(self.pairs)

    def estimate(self, endpoint: Endpoint) -> Estimate:
        """What an endpoint will be asked for; answers that its store has are free. Asks nothing."""
        asked = endpoint.unpaid(self.messages)
        distinct = len({messages[1]["content"] for messages in self.messages})
        prompt = sum(endpoint.size(messages) for messages in asked)
        likely = len(asked) * min(LIKELY_ANSWER, endpoint.max_answer_tokens)
        most = len(asked) * endpoint.max_answer_tokens
        costs = (endpoint.prices.cost(prompt, answer) for answer in (likely, most))
        return Estimate(len(self.pairs), distinct - len(asked), len(asked), prompt, likely, most, *costs)

    def ask(self, asker: Asker, progress: Progress | None = None) -> Labelling:
        """Ask about every pair. Raises as Asker.ask."""
        from goodrate.teaching.chat_endpoint import Answer
        from goodrate.teaching.label_answer import read_label

        def read(answer: Answer) -> Outcome[Labelled]:
            return read_label(answer, self.prompt.scale)

        questions = [(messages, read) for messages in self.messages]
        return Labelling(self, tuple(asker.ask(questions, progress)), asker.endpoint.model)


@dataclass(frozen=True)
class Labelling:
    """The outcome of each pair of a task, and the model that was asked."""

    task: LabelTask
    outcomes: tuple[Outcome[Labelled], ...]
    model: str

    @property
    def rater(self) -> str:
        """The name under which the labels stand: it tells readers of judgements that no person gave them."""
        from goodrate.catalog.raters import MODEL

        return f"{MODEL}{self.model}"

    @property
    def counts(self) -> Counter[str]:
        """How many rows got each label, by name, worst first."""
        scale = self.task.prompt.scale
        got = Counter(one.found.label for one in self.outcomes if one.found is not None)
        return Counter({name: got[place] for place, name in enumerate(scale.labels)})

    @property
    def failures(self) -> Counter[str]:
        """How many rows have no label, by reason."""
        failed = Counter(one.failure for one in self.outcomes if one.found is None)
        return failed + Counter({UNKNOWN_ITEM: self.task.table.unknown_items})

    @property
    def frame(self) -> pl.DataFrame:
        """One row a row of the file: its query and item, label, rater, reason, status; no label where status is not ok.

        read_judgements takes it: blank labels are unrated, and the rater says that a model gave the others.
        """
        import polars as pl

        texts = (*self.task.table.shown.columns, "label", "rater", "reason", "status")
        return pl.DataFrame(list(self._rows()), schema=dict.fromkeys(texts, pl.String))

    def _rows(self) -> Iterator[dict[str, Any]]:
        remaining = iter(self.outcomes)
        labels = self.task.prompt.scale.labels
        for columns, pair in zip(self.task.table.shown.iter_rows(named=True), self.task.table.pairs, strict=True):
            one = next(remaining) if pair is not None else None
            found, failure = (one.found, one.failure) if one else (None, UNKNOWN_ITEM)
            told = (
                {"label": labels[found.label], "reason": found.reason, "status": OK} if found else {"status": failure}
            )
            yield {**columns, "label": None, "rater": self.rater, "reason": None, **told}

    def agreement(self, seed: int = 0) -> TeacherAgreement | None:
        """How far the labels agree with people's, on queries unlike those of the examples; None without people's.

        Raises ValueError when no pair has both.
        """
        from goodrate.evaluation.teacher_agreement import teacher_agreement
        from goodrate.teaching.label_examples import unseen

        task = self.task
        if not task.gold:
            return None
        usable = unseen(task.pairs, task.prompt.examples)
        people = [own if free else None for own, free in zip(task.people, usable, strict=True)]
        given = [None if one.found is None else one.found.label for one in self.outcomes]
        return teacher_agreement(people, given, [pair.query for pair in task.pairs], task.prompt.scale, seed)

    def write(self, out: str | Path) -> None:
        """The whole file (.csv, .jsonl or .parquet), or none."""
        from goodrate.catalog.tables import write_table

        write_table(Path(out), self.frame)


def label_task(
    pairs: str | Path, source: ItemSource, scale: Scale | None = None, *, rules: str | Path | None = None,
    guidelines: str | Path | None = None, gold: str | Path | None = None, gold_map: Mapping[str, str] | None = None,
    examples: int = 0, characters: int | None = None, map: Mapping[str, str] | None = None,
    facts: str | Path | None = None, skip_bad: int = 0,
) -> LabelTask:  # fmt: skip
    """What to ask about the pairs of a file. scale: None = that of the rule book.

    rules: a rule book's file or name. guidelines: a text file for the model. gold: judgements of people for some of the
    pairs, or the pair file itself where it has a column label. examples: so many of these are shown to the model, and
    alike queries are no test of it. Raises ValueError and FileNotFoundError with file, row and column.
    """
    from goodrate.teaching.label_prompt import ITEM_CHARACTERS, LabelPrompt

    if scale is None and rules is None:
        raise ValueError(
            "which labels? --scale NAME (esci, graded_0_3, ... or a TOML file), or --rules with a rule book"
        )
    if examples and gold is None:
        raise ValueError(f"--examples {examples}: they are taken from people's labels; name them with --gold")
    book = None if rules is None else rule_book(rules, scale)
    labels = book.scale if book is not None else scale_of(scale if scale is not None else "")
    told = _guidelines(guidelines)
    require_facts(facts)
    table = read_pair_file(pairs, source, map, skip_bad)
    prompt = LabelPrompt(labels, told, book, (), characters or ITEM_CHARACTERS)
    known = fact_book(facts or source.facts)
    usable = [
        pair if pair.facts else replace(pair, facts=known.of(pair.query)) for pair in table.pairs if pair is not None
    ]
    if gold is None:
        return LabelTask(table, usable, prompt, [None] * len(usable))
    return _with_gold(LabelTask(table, usable, prompt, []), Path(gold), gold_map, examples, skip_bad)


def _with_gold(
    task: LabelTask, gold: Path, gold_map: Mapping[str, str] | None, examples: int, skip_bad: int
) -> LabelTask:
    """The task with people's labels, and examples from them."""
    from goodrate.teaching.label_examples import chosen_examples

    scale = task.prompt.scale
    if gold.resolve() == task.table.path.resolve():
        if task.table.models:
            raise ValueError(f"{gold}: its labels are made by {', '.join(task.table.models)}, not by people")
        people, lost = task.table.gold(scale), 0
    else:
        people, lost = _joined(task, read_judgements(gold, scale, map=gold_map, skip_bad=skip_bad))
    if not any(label is not None for label in people):
        raise ValueError(f"--gold {gold}: none of its labels is of a pair in {task.table.path}")
    shown = chosen_examples(task.pairs, people, examples, len(scale))
    return LabelTask(task.table, task.pairs, replace(task.prompt, examples=tuple(shown)), people, True, lost)


def _joined(task: LabelTask, judgements: Judgements) -> tuple[list[int | None], int]:
    """People's label of each pair, by the words of the query and the item's id; and how many labels have no pair."""
    from goodrate.catalog.item_ids import match_ids
    from goodrate.catalog.normal_form import normal_text

    shown = task.table.shown
    if "item_id" not in shown.columns:
        raise ValueError(f"--gold names items by id, and {task.table.path} has texts: give the file itself as --gold")
    known = [pair is not None for pair in task.table.pairs]
    ids = shown["item_id"].filter(known)
    theirs = match_ids(judgements.frame["item_id"], ids).apply(judgements.frame["item_id"])
    queries = [normal_text(query) for query in judgements.frame["query"]]
    labels = dict(zip(zip(queries, theirs, strict=True), judgements.label_indices().tolist(), strict=True))
    keys = [(normal_text(pair.query), item) for pair, item in zip(task.pairs, ids, strict=True)]
    return [labels.get(key) for key in keys], len(set(labels) - set(keys))


def _guidelines(path: str | Path | None) -> str:
    """The text of a file. FileNotFoundError, ValueError for an empty one."""
    if path is None:
        return ""
    if not Path(path).is_file():
        raise FileNotFoundError(f"--guidelines: no file {path}")
    text = read_text(Path(path))
    if not text.strip():
        raise ValueError(f"--guidelines {path}: the file is empty")
    return text


def label(
    pairs: str | Path, *, endpoint: str, model: str, scale: Scale | None = None, out: str | Path | None = None,
    catalog: str | Path | None = None, index: str | Path | None = None, rules: str | Path | None = None,
    guidelines: str | Path | None = None, gold: str | Path | None = None, examples: int = 0,
    map: Mapping[str, str] | None = None, key_env: str | None = None, max_tokens_total: int | None = None,
    max_cost: float | None = None, price_prompt: float = 0.0, price_answer: float = 0.0,
    max_answer_tokens: int = ANSWER_TOKENS, concurrency: int = 4, answers: str | Path | None = None,
    progress: Progress | None = None,
) -> Labelling:  # fmt: skip
    """Label the pairs of a file with a language model behind an OpenAI-compatible address; see label_task and Endpoint.

    out: where the labels go, None = nowhere. answers: the SQLite file that keeps every answer, None = verdicts.sqlite
    beside out or here: called again, nothing is paid twice. `.frame` has the labels, whose rater is "model:<model>";
    `.agreement()` holds them against people's (gold). Raises ValueError when no pair got a label.
    """
    source = ItemSource(Path(catalog) if catalog else None, index=Path(index) if index else None)
    stored = Path(answers) if answers else (Path(out).parent if out else Path()) / "verdicts.sqlite"
    caps = (max_tokens_total, max_cost, price_prompt, price_answer)
    asked = Endpoint(endpoint, model, key_env, *caps, max_answer_tokens, concurrency, answers=stored)
    asked.check("endpoint")
    task = label_task(pairs, source, scale, rules=rules, guidelines=guidelines, gold=gold, examples=examples, map=map)
    with opened_asker(asked) as asker:
        done = task.ask(asker, progress)
    require_labels(done, asker.refused)
    if out is not None:
        done.write(out)
    return done


def require_labels(done: Labelling, refused: Mapping[str, str]) -> None:
    """ValueError with what went wrong when no pair got a label. refused: the server's words."""
    if any(done.counts.values()):
        return
    kinds = ", ".join(f"{name} {count:,}" for name, count in done.failures.most_common())
    words = "; ".join(f"the server said: {said}" for said in refused.values() if said)
    raise ValueError(f"no pair got a label ({kinds}){'; ' if words else ''}{words}")
