"""STREAM: seeds of a language model, rules and a tagger distilled from them, the model taught, and once more.

Paper: arXiv 2210.02768, public as an abstract; the three moves are its, all numbers are the house's or TALLOR's.
A killed run goes on from the last round; it ends with the same tagger as one that was not killed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from goodrate.learning.source import seed_of
from goodrate.models.span_tagger import SpanTagger
from goodrate.models.word_states import WordReader
from goodrate.recipes.phrase_folds import cross_fitted
from goodrate.recipes.span_tagger import TaggerSettings, trained, training_labels
from goodrate.run_folder import RunFolder, new_folder
from goodrate.understanding import gate
from goodrate.understanding.candidates import Spans, find_spans, frequent_phrases, phrase_texts, phrases_of
from goodrate.understanding.distilling import LoopSettings, Pool, Problem, distil, seeded
from goodrate.understanding.entity_types import EntityTypes
from goodrate.understanding.expert import Expert
from goodrate.understanding.labels import NOTHING
from goodrate.understanding.rules import Rule, RuleTable, rule_table
from goodrate.understanding.seeds import (
    Asked,
    LabelWords,
    SeedSettings,
    ask,
    consistent_seeds,
    label_words,
    taught_seeds,
)
from goodrate.understanding.span_vectors import phrase_means
from goodrate.understanding.tagger import (
    States,
    Tagger,
    TaggerCard,
    held_states,
    open_reader,
    reading,
    span_probabilities,
)
from goodrate.understanding.words import Words

Seeds = dict[int, int]  # phrase -> class
LAST = 9  # the number that stands for a pass in the seeds of the tagger that is kept
Record = dict[str, Any]


class Settings(BaseModel):
    """How to distil."""

    model_config = ConfigDict(extra="forbid")
    texts: int = Field(default=5000, gt=0, description="learn from so many texts, drawn at random; tag them all")
    phrases: int = Field(default=400, gt=0, description="ask the expert about so many frequent phrases")
    least: int = Field(default=5, gt=0, description="times that such a phrase must be there")
    mentions: int = Field(default=5, gt=0, description="texts in which the expert is asked about a phrase")
    seeds: int = Field(default=10, gt=0, description="seeds of each type, at most")
    folds: int = Field(default=3, ge=1, description="taggers a round; each judges phrases it was not trained on")
    passes: int = Field(default=2, ge=1, le=2, description="2: the expert is taught on the pool and asked again")
    rounds: int = Field(default=8, gt=0, description="rounds of a pass, at most")
    precision: float = Field(default=0.9, gt=0, le=1, description="least precision of a rule")
    kept: float = Field(default=0.7, gt=0, le=1, description="share of a type's predictions that is believed")
    gated: bool = Field(default=True, description="new labels pass the dynamic gate")
    consistent: bool = Field(default=True, description="seeds need both templates to agree")
    single_template: bool = Field(default=False, description="the expert is asked with the first template alone")
    calibrated: bool = Field(default=True, description="what the expert says of no content is taken off")
    tagger: TaggerSettings = Field(default_factory=TaggerSettings)
    seed: int = 0


class _Identity(Settings):
    """The settings with what the run was made of: a folder is never resumed with other texts, types or experts."""

    data: str
    types: str
    expert: str
    encoder: str


@dataclass(frozen=True)
class Reading:
    """What a frozen encoder says of the words. states: (T, D) float16. card: what the tagger's card keeps of it."""

    reader: WordReader
    states: np.ndarray
    card: Mapping[str, Any]


@dataclass(frozen=True)
class Corpus:
    """The texts that are learned from, with their candidates and rule candidates."""

    words: Words
    spans: Spans
    table: RuleTable
    reading: Reading | None = None

    @property
    def states(self) -> States | None:
        """The states of the words, where an encoder was read."""
        return held_states(self.words, self.reading.states) if self.reading else None


@dataclass(frozen=True)
class Distilled:
    """What came out. seeds: of each pass. history: a record a round, as in metrics.jsonl. pool: the last one."""

    tagger: Tagger
    seeds: list[Seeds]
    pool: Pool
    corpus: Corpus
    history: list[Record]
    left_out: tuple[str, ...]


def read_words(words: Words, encoder: str | Path) -> Reading:
    """The words as an encoder's folder or hub id reads them; errors as open_reader."""
    reader = open_reader(encoder)
    return Reading(reader, reader(words.texts.to_list(), words.start, words.begin), reading(reader, encoder))


def corpus_of(words: Words, types: EntityTypes, reading: Reading | None = None) -> Corpus:
    """Candidates and rule candidates. ValueError when the texts hold none."""
    spans = find_spans(words, types.function_words)
    if not len(spans):
        raise ValueError("the texts hold no candidate phrase; expected titles or descriptions of words")
    return Corpus(words, spans, rule_table(words, spans), reading)


def distil_tagger(
    settings: Settings, types: EntityTypes, corpus: Corpus, expert: Expert | None, run: RunFolder, data: str,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    watch: Callable[[int, Pool, np.ndarray | None], Mapping[str, Any]] = lambda number, pool, probabilities: {},
    source: str = "types",
) -> Distilled:  # fmt: skip
    """Distil a tagger and write it to run/tagger; a killed run resumes from the folder.

    expert: None = the seeds of the types file alone, and one pass. data: what tells the texts from others. watch: gives
    more of a round for the log, of (pass, pool, what the round's tagger said of the spans).
    Raises ValueError without a single seed, and as label_words.
    """
    whole = _Identity(**settings.model_dump(), data=data, types=types.model_dump_json(),
                      expert=expert.identity if expert else "none",
                      encoder=corpus.reading.card["fingerprint"] if corpus.reading else "none")  # fmt: skip
    run.begin(whole, settings.seed)
    work = _Work(settings, types, corpus, expert, run, progress, watch)
    told = label_words(types, expert, source) if expert else None
    asked = work.asked(expert, told) if expert and told else None
    seeds, none = work.first_seeds(asked, told)
    pool = work.loop(1, seeds, none)
    every = [seeds]
    if asked is not None and told is not None and settings.passes > 1:
        taught = work.taught(asked, told, pool, none, seeds)
        if taught:
            every.append(taught)
            pool = work.loop(2, taught, none)
    tagger = work.finished(pool, every[-1], none)
    return Distilled(tagger, every, pool, corpus, run.metrics(), told.left_out if told else ())


@dataclass(frozen=True)
class _Work:
    """The stages of a run; each leaves a file, and one whose file is there is read instead of done."""

    settings: Settings
    types: EntityTypes
    corpus: Corpus
    expert: Expert | None
    run: RunFolder
    progress: Callable[[str, int, int], None]
    watch: Callable[[int, Pool, np.ndarray | None], Mapping[str, Any]]

    @property
    def card(self) -> TaggerCard:
        read = self.corpus.reading.card if self.corpus.reading else {}
        return TaggerCard(self.types.names, tuple(self.types.function_words), **read)

    @property
    def seed_settings(self) -> SeedSettings:
        s = self.settings
        return SeedSettings(most=s.seeds, mentions=s.mentions, consistent=s.consistent, single=s.single_template,
                            calibrated=s.calibrated)  # fmt: skip

    def asked(self, expert: Expert, told: LabelWords) -> Asked:
        """What the expert says of the frequent phrases."""
        path = self.run.path / "asked.npz"
        if not path.is_file():
            words, spans = self.corpus.words, self.corpus.spans
            phrases = frequent_phrases(words, spans, self.settings.least, self.settings.phrases)
            if not len(phrases):
                raise ValueError(f"no phrase is there {self.settings.least} times, so there is nothing to ask the "
                                 "expert about; give more texts, or a lower `least`")  # fmt: skip
            rng = np.random.default_rng([self.settings.seed, 1])
            found = ask(expert, self.types, words, spans, phrases, told, self.seed_settings, rng,
                        partial(self.progress, "asking the expert"))  # fmt: skip
            self._save("asked.npz", asdict(found))
        return Asked(**_arrays(path))

    def first_seeds(self, asked: Asked | None, told: LabelWords | None) -> tuple[Seeds, np.ndarray]:
        """The seeds of the types file and of the expert, and (P,) bool the phrases it calls no entity."""
        words, spans = self.corpus.words, self.corpus.spans
        none = np.zeros(len(spans.count), dtype=bool)
        seeds: Seeds = {}
        if asked is not None and told is not None:
            seeds, nothing = consistent_seeds(asked, told, spans.count, self.seed_settings)
            none[nothing] = True
        own = {seed: c for c, kind in enumerate(self.types.types.values()) for seed in kind.seeds}
        given = {phrase: own[text] for text, phrase in phrases_of(words, spans, own).items()}
        seeds |= given
        none[list(given)] = False
        if not seeds:
            raise ValueError("no seed: the expert is sure of no phrase, and no seed of the types file is in the texts; "
                             "add seeds = [...] to the types, or take another expert")  # fmt: skip
        self._say_seeds(1, seeds)
        return seeds, none

    def loop(self, number: int, seeds: Seeds, none: np.ndarray) -> Pool:
        """The pool that the rounds of a pass end with."""
        last: list[np.ndarray] = []

        def train(pool: Pool) -> np.ndarray:
            last[:] = [self._said(number, pool, none)]
            return last[0]

        s = self.settings
        problem = Problem(
            self.corpus.words, self.corpus.spans, self.corpus.table, len(self.types), train, self._vectors,
            LoopSettings(rounds=s.rounds, precision=s.precision, kept=s.kept, gated=s.gated),
            seed_of(s.seed, "gate", number), str(number),
        )  # fmt: skip
        pool = self._resumed(number)
        if pool is None:
            pool = seeded(problem, seeds)
            self._keep(number, pool, None)
        for after in distil(problem, pool):
            self._keep(number, pool := after, last[0])
            self.progress(f"pass {number}: rounds", pool.number, s.rounds)
        return pool

    def taught(self, asked: Asked, told: LabelWords, pool: Pool, none: np.ndarray, before: Seeds) -> Seeds:
        """The seeds of the taught expert, and those of the types file, which stay."""
        seeds = taught_seeds(asked, told, pool.label[asked.span], np.flatnonzero(none), self.corpus.spans.count,
                             self.settings.seed)  # fmt: skip
        own = {seed for kind in self.types.types.values() for seed in kind.seeds}
        given = phrases_of(self.corpus.words, self.corpus.spans, own).values()
        seeds |= {phrase: before[phrase] for phrase in given}
        self._say_seeds(2, seeds)
        return seeds

    def finished(self, pool: Pool, seeds: Seeds, none: np.ndarray) -> Tagger:
        """The tagger of the last pool, written to run/tagger."""
        folder = self.run.path / "tagger"
        if not folder.is_dir():
            rng = np.random.default_rng([self.settings.seed, LAST])
            network = self._last_network(pool, none, rng)
            names = phrase_texts(self.corpus.words, self.corpus.spans, np.array(list(seeds), dtype=np.int64))
            told = {name: self.types.names[c] for name, c in zip(names, seeds.values(), strict=True)}
            card = TaggerCard(**{**vars(self.card), "seeds": told, "rules": pool.rules})
            with new_folder(folder) as beside:
                Tagger(card, network).save(beside)
        return Tagger.load(folder)

    def _last_network(self, pool: Pool, none: np.ndarray, rng: np.random.Generator) -> SpanTagger:
        """The tagger of the last pool and of what the last round's taggers held for likely."""
        classes = len(self.types)
        likely = np.where(pool.said < classes, pool.said, NOTHING)
        label = np.where(pool.label != NOTHING, pool.label, likely)
        usable = (label != NOTHING) | (pool.said == classes)
        if not (pool.said != NOTHING).any():  # no round was done, or nothing was learned in it
            usable[:] = True
        return self._network(label, usable, none, rng, pool.number, (LAST, 0))[0]

    def _said(self, number: int, pool: Pool, none: np.ndarray) -> np.ndarray:
        """(S, C + 1): what fresh taggers, trained on the pool, say of all spans; of phrases that they did not see."""
        corpus, folds, classes = self.corpus, self.settings.folds, len(self.types)
        rng = np.random.default_rng([self.settings.seed, number, pool.number])
        free = (pool.said == NOTHING) | (pool.said == classes) | (pool.label != NOTHING)

        def judge(label: np.ndarray, usable: np.ndarray, fold: int) -> tuple[np.ndarray, float]:
            network, share = self._network(label, usable & free, none, rng, pool.number, (number, fold))
            return span_probabilities(network, corpus.words, corpus.spans, corpus.states), share

        if folds == 1:  # the tagger judges what it was trained on, as TALLOR's does
            return judge(pool.label, np.ones(len(pool.label), dtype=bool), 0)[0]
        return cross_fitted(corpus.spans, pool.label, classes, folds, rng, judge)

    def _network(
        self, label: np.ndarray, usable: np.ndarray, none: np.ndarray, rng: np.random.Generator, at: int,
        which: tuple[int, int],
    ) -> tuple[SpanTagger, float]:  # fmt: skip
        """A fresh tagger of these labels, and which share of the unlabelled spans it had as negatives.

        which: (pass, fold), for its seed and for what is said of it.
        """
        corpus, settings = self.corpus, self.settings.tagger
        negatives = int(settings.negatives * len(corpus.words))
        soft, used, share = training_labels(corpus.spans, label, len(self.types), negatives, rng, none, usable)
        updates = settings.updates + at * settings.updates_more
        number, fold = which
        what = f"pass {number}, round {at + 1}: training {fold + 1}" if number != LAST else "training the last tagger"
        told = lambda record: self.progress(what, record["update"], updates)  # noqa: E731
        seed = seed_of(self.settings.seed, "tagger", number, fold)
        network = trained(self.card, corpus.words, corpus.spans, soft, used, settings, at, seed, told, corpus.states)
        return network, share

    def _vectors(self, phrases: np.ndarray) -> np.ndarray:
        if self.corpus.reading:
            return phrase_means(self.corpus.spans, phrases, self.corpus.reading.states)
        names = phrase_texts(self.corpus.words, self.corpus.spans, phrases)
        return self.expert.vectors(names) if self.expert else gate.letter_vectors(names)

    def _say_seeds(self, number: int, seeds: Seeds) -> None:
        """Log the seeds of a pass, once."""
        if not any(r.get("pass") == number and "seeds" in r for r in self.run.metrics()):
            by_type = [sum(c == kind for c in seeds.values()) for kind in range(len(self.types))]
            self.run.log({"pass": number, "seeds": dict(zip(self.types.names, by_type, strict=True))})

    def _keep(self, number: int, pool: Pool, probabilities: np.ndarray | None) -> None:
        """Save the pool, then log the round: a kill between the two loses the line, which is written on resuming."""
        record = {"pass": number, "round": pool.number, "rules": len(pool.rules), "done": pool.done,
                  "labelled": int((pool.label != NOTHING).sum()), "waiting": int((pool.waiting != NOTHING).sum()),
                  **self.watch(number, pool, probabilities)}  # fmt: skip
        self.run.keep_metrics(lambda r: (r.get("pass"), r.get("round")) != (number, pool.number))
        self.run.log(record)
        arrays = {name: value for name, value in vars(pool).items() if isinstance(value, np.ndarray)}
        rules: dict[str, np.ndarray] = {
            f"rule_{name}": np.array([getattr(rule, name) for rule in pool.rules], dtype=kind)
            for name, kind in RULE_COLUMNS.items()
        }
        self._save(f"pool_{number}.npz", {**arrays, **rules, "number": pool.number, "done": pool.done})

    def _resumed(self, number: int) -> Pool | None:
        """The pool after the last whole round of a pass; None where there is none."""
        path = self.run.path / f"pool_{number}.npz"
        if not path.is_file():
            return None
        held = _arrays(path)
        columns = {name: held.pop(f"rule_{name}").tolist() for name in RULE_COLUMNS}
        rules = tuple(Rule(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True))
        return Pool(rules=rules, number=int(held.pop("number")), done=bool(held.pop("done")), **held)

    def _save(self, name: str, arrays: Mapping[str, Any]) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        self.run.write(name, buffer.getvalue())


RULE_COLUMNS = {"pattern": np.int64, "key": np.uint64, "kind": np.int64, "says": np.str_, "matches": np.int64,
                "labelled": np.int64, "stage": np.str_}  # fmt: skip


def _arrays(path: Any) -> dict[str, np.ndarray]:
    """The arrays of an npz file. ValueError naming the file when it is not whole."""
    try:
        with np.load(path) as held:
            return dict(held)
    except (ValueError, EOFError, KeyError, OSError, BadZipFile) as error:
        raise ValueError(f"{path}: not a whole file of this run ({error}); remove the folder to start anew") from error


def rule_lines(tagger: Tagger) -> Iterator[str]:
    """The seeds and rules of a tagger as readable lines, by type, the most precise first."""
    card = tagger.card
    for c, name in enumerate(card.types):
        mine = sorted((r for r in card.rules if r.kind == c), key=lambda r: (-r.precision, -r.matches, r.says))
        seeds = sorted(phrase for phrase, kind in card.seeds.items() if kind == name)
        yield f"# {name}: {len(seeds)} seeds, {len(mine)} rules"
        yield from (f"{name}: seed {phrase!r}" for phrase in seeds)
        yield from (
            f"{name}: {rule.says}   (precision {rule.precision:.2f}, {rule.matches} matches, round {rule.stage})"
            for rule in mine
        )
