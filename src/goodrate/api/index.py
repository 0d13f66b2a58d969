"""A search index: made from items, searched, and reranked by a judge."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.api import describing, encoders
from goodrate.api.notes import CONTEXTS, FACTS, RULES
from goodrate.relevance.judge import CalibratedJudge
from goodrate.relevance.query_notes import QueryNotes

if TYPE_CHECKING:
    from goodrate.api.ranker import RankerChoice
    from goodrate.catalog.items import Catalog
    from goodrate.models.encoder import Encoder
    from goodrate.ranking.results import Result as Result
    from goodrate.ranking.rule_file import RankingRules
    from goodrate.relevance.overrules import Overruling
    from goodrate.relevance.protocol import Judge
    from goodrate.retrieval.facets import Facets as Facets
    from goodrate.retrieval.indexing import IndexReport, ItemEncoder
    from goodrate.retrieval.search import Searcher
    from goodrate.retrieval.search_settings import SearchSettings
    from goodrate.retrieval.search_words import SearchWords
    from goodrate.retrieval.store import Store
    from goodrate.retrieval.syncing import IndexPlan
    from goodrate.serving.online_weights import OnlineWeights
    from goodrate.serving.pipeline import SearchPipeline
    from goodrate.serving.records import SearchResponse as SearchResponse

SYNC_LIMIT = 0.2  # of the items of an index, that a sync may remove unless it is told otherwise
DEPTH = 50  # retrieved items that a judge sees
Progress = Callable[[int, int], None]  # (done, total) items
KEPT = ("store", "encoder", "judge", "depth", "mode", "as_typed", "judge_ms", "ranker", "online", "overrules")


class Index:
    """An index folder, the encoder of its vectors (None: words alone), and perhaps a judge that reranks the top."""

    def __init__(
        self, store: Store, encoder: ItemEncoder | None = None, judge: CalibratedJudge | None = None,
        depth: int = DEPTH, mode: str | None = None, as_typed: bool = False,
        rules: RankingRules | str | Path | None = None, judge_ms: float | None = None,
        ranker: RankerChoice | None = None, online: OnlineWeights | None = None, overrules: Overruling | None = None,
    ) -> None:  # fmt: skip
        """judge_ms: what a search may spend on verdicts; None = no limit, all `depth` items are judged.
        mode: hybrid, lexical or dense; None = the best that the index has. as_typed: "without X" and "under 50 euro"
        are plain words. rules: ranking rules or their file; None = ranking_rules.toml of the folder, if it is there.
        ranker: a click ranker that orders the results inside their tiers. online: weights of channels that clicks move.
        overrules: what people say in the judge's place (api.overruling.people_of). ValueError for another encoder.
        """
        if encoder is not None:
            store.require_encoder(encoder.fingerprint)
        self.store, self.encoder, self.judge, self.depth, self.mode = store, encoder, judge, depth, mode
        self.as_typed, self._rules, self.judge_ms, self.ranker, self.online = as_typed, rules, judge_ms, ranker, online
        self.overrules = overrules

    @classmethod
    def create(
        cls, path: str | Path, items: Catalog | Any, encoder: str | Path | Encoder | None = None, *,
        fields: Sequence[str] | None = None, dimensions: int | None = None, progress: Progress | None = None,
        language: str | None = None, sync: bool = False, sync_limit: float = SYNC_LIMIT,
    ) -> Index:  # fmt: skip
        """An index of these items. One that is there is brought up to date: only new and changed items are encoded.

        items: a Catalog or a frame. encoder: a sentence-transformers folder, hub id or Encoder; None = full text only,
        or the one that the index remembers. fields: what the encoder reads of an item; None = what it was trained on,
        else title and description. dimensions: keep only so many floats of a vector. language: of texts and queries,
        such as "de"; English unless said. sync, sync_limit: as in add. Raises ValueError when the folder holds another
        thing or was made otherwise, and FolderBusy when another process still writes into it after 600 seconds.
        """
        with cls.writing(path, encoder, fields, dimensions, language) as index:
            index.add(items, progress, sync=sync, sync_limit=sync_limit)
        return index

    @staticmethod
    def plan(path: str | Path, items: Catalog | Any) -> IndexPlan:
        """What create(path, items) would add and change, and which items of the index the catalogue lacks.

        Writes nothing and loads no encoder. Raises ValueError as create.
        """
        from goodrate.retrieval.indexing import plan_folder

        return plan_folder(Path(path), _catalog(items))

    @classmethod
    @contextlib.contextmanager
    def writing(
        cls, path: str | Path, encoder: str | Path | Encoder | None = None, fields: Sequence[str] | None = None,
        dimensions: int | None = None, language: str | None = None, *, wait_s: float | None = None,
        told: Callable[[str], None] | None = None,
    ) -> Iterator[Index]:  # fmt: skip
        """The index of a folder, empty where there was none, held for writing until the block ends; see create.

        Another writer waits, or is waited for: wait_s seconds, 600 unless said. told: called with who is waited for,
        and with what was mended. Raises FolderBusy when the other writer is still there after that.
        """
        from goodrate.catalog.rendering import RENDERED_FIELDS, check_fields
        from goodrate.retrieval.manifest import is_index, require_free
        from goodrate.retrieval.turns import WAIT_S, located, writing_turn

        path = located(path)
        check_fields(fields if fields is not None else RENDERED_FIELDS)
        if not is_index(path):  # refused, and the encoder read, before there is a folder
            require_free(path)
            loaded = encoders.new_encoder(encoder, dimensions)
        with writing_turn(path, WAIT_S if wait_s is None else wait_s, told):
            if is_index(path):
                index = cls.open(path, encoder)
                index._require(fields, dimensions, language)
            else:
                require_free(path)
                index = cls._made(path, encoder, loaded, fields, language or "en")
            with index.held(told=told):
                yield index

    @contextlib.contextmanager
    def held(self, wait_s: float | None = None, told: Callable[[str], None] | None = None) -> Iterator[Index]:
        """This index, held for writing until the block ends, with one row for each item; see writing."""
        from goodrate.retrieval.turns import WAIT_S, writing_turn

        with writing_turn(self.store.path, WAIT_S if wait_s is None else wait_s, told):
            doubled = self.store.mend()
            if doubled and told is not None:
                told(f"mended {self.store.path}: {doubled:,} rows of items that were there more than once are gone")
            yield self

    @classmethod
    def _made(
        cls, path: Path, encoder: str | Path | Encoder | None, loaded: Encoder | None, fields: Sequence[str] | None,
        language: str,
    ) -> Index:  # fmt: skip
        """A new, empty index."""
        from goodrate.retrieval.indexing import PRETRAINED_FIELDS
        from goodrate.retrieval.manifest import remembered_place
        from goodrate.retrieval.store import Store

        if loaded is None:
            return cls(Store.create(path, None, None, language=language))
        where = remembered_place(path, encoder)
        fields = fields or getattr(loaded, "item_fields", None) or PRETRAINED_FIELDS
        store = Store.create(path, loaded.fingerprint, loaded.dimension, where, fields, language)
        return cls(store, encoders.single_query_encoder(loaded))

    @classmethod
    def open(cls, path: str | Path, encoder: str | Path | Encoder | None = None, *, words_only: bool = False) -> Index:
        """The index of a folder. encoder: where its encoder lies, if it has moved. words_only: load no encoder.

        Raises FileNotFoundError when there is no index, ValueError when the encoder is another one.
        """
        from goodrate.retrieval.store import Store

        store = Store.open(path)
        if store.fingerprint is None:
            store.require_encoder(encoders.load_encoder(encoder).fingerprint if encoder is not None else None)
            return cls(store)
        if words_only:
            return cls(store, mode="lexical")
        if encoder is None:
            loaded = encoders.remembered_encoder(store)
        else:
            loaded = encoders.load_encoder(encoder, store.dimension)
        return cls(store, encoders.single_query_encoder(loaded))

    def _require(self, fields: Sequence[str] | None, dimensions: int | None, language: str | None) -> None:
        """ValueError when an index that is there was made otherwise."""
        path, store = self.store.path, self.store
        if fields is not None and list(fields) != store.encoded_fields:
            raise ValueError(f"{path} encodes {','.join(store.encoded_fields)}; for other fields make another index")
        if dimensions not in (None, store.dimension):
            raise ValueError(f"{path} has vectors of {store.dimension} floats; for {dimensions} make another index")
        if language not in (None, store.manifest.language):
            raise ValueError(f"{path} is in language {store.manifest.language}; for {language} make another index")

    def __len__(self) -> int:
        return len(self.store)

    def __repr__(self) -> str:
        return f"Index of {len(self):,} items in {self.store.path}: {self.name}"

    @property
    def name(self) -> str:
        """What it does, for reports: hybrid, or hybrid + judge."""
        mode = self.mode or self.modes[0]
        return f"{mode} + {self.judge.name}" if self.judge else mode

    @property
    def modes(self) -> tuple[str, ...]:
        """How it can be searched, the best first."""
        return ("hybrid", "lexical", "dense") if self.encoder else ("lexical",)

    @property
    def items(self) -> Catalog:
        """Every item, ordered by id."""
        return self.store.all_items()

    def add(
        self, items: Catalog | Any, progress: Progress | None = None,
        queries: Iterable[tuple[str, float]] | None = None, *, sync: bool = False, sync_limit: float = SYNC_LIMIT,
        told: Callable[[str], None] | None = None,
    ) -> IndexReport:  # fmt: skip
        """Bring items into the index: new and changed ones are encoded; those that are not named stay.

        queries: (query, count) of a log, which suggestions are made of beside the items. sync: remove the items that
        are not named, after all else; told: called with what will go. Raises ValueError, with nothing written, when
        that is more than the share sync_limit of the index.
        """
        from goodrate.retrieval.indexing import index_catalog
        from goodrate.retrieval.syncing import Sync
        from goodrate.retrieval.turns import writing_turn

        catalog = _catalog(items)
        with writing_turn(self.store.path):
            removal = Sync(sync_limit, told) if sync else None
            report = index_catalog(self.store, catalog, self.encoder, progress, removal)
            self._count_words(report.added + report.changed + report.removed, queries)
        return report

    def remove(self, ids: Sequence[str]) -> int:
        """Take items out; returns how many were there."""
        from goodrate.retrieval.turns import writing_turn

        with writing_turn(self.store.path):
            removed = self.store.remove(ids)
            self._count_words(removed)
        return removed

    def _count_words(self, changed: int, queries: Iterable[tuple[str, float]] | None = None) -> None:
        """Spelling, suggestions and what cosines mean, of the items that are there now, where they are due."""
        from goodrate.retrieval.calibration import CALIBRATION_FILE, calibrate
        from goodrate.retrieval.search_words import count_words

        due = count_words(self.store, changed, self.encoder, queries)
        if self.encoder is not None and (due or not (self.store.path / CALIBRATION_FILE).is_file()):
            calibrate(self.store, self.encoder)
        if due:
            vars(self).pop("words", None)
            vars(self).pop("pipeline", None)

    def search(
        self, query: str, k: int = 10, where: str | None = None, mode: str | None = None, depth: int | None = None,
        ignore: Sequence[str] = (), facets: bool | Sequence[str] = False, *, offset: int = 0, sort: str = "relevance",
        group_by: str | None = None, with_rules: bool = True, judge_ms: float | None = None, disjunctive: bool = False,
    ) -> SearchResponse:  # fmt: skip
        """The best k items, best first; with a judge, its verdicts order the first `depth`.

        where: such as "price < 50 AND attributes.color = 'red'", see docs/filters_and_facets.md. facets: names such as
        "brand" and "attributes.color", or True for brand, category, price and the attributes that split the results
        best; the answer's `facets` has them with counts and a filter for each value. disjunctive: each facet ignores
        what `where` asks of its own field. Exclusions and prices in the query ("without X", "under 50 euro") are read
        by rules; the answer's `spans` tell what was read, and those whose ids are in `ignore` are plain words. offset:
        results left out before the first, for pages. sort: price, -price (falling), rating or attributes.NAME, among
        the relevant results. group_by: one result for all items with the same parent_id (or brand, category,
        attributes.NAME), or, as title, whose titles differ by colour, size and count alone; "none" where the index
        groups unasked. with_rules: whether its ranking rules act. judge_ms: milliseconds for verdicts; `left` counts
        candidates without. Raises ValueError for an empty query, an unknown mode, name or facet, or a wrong filter.
        """
        from goodrate.serving.records import SearchRequest

        if not query.strip():
            raise ValueError("the query is empty")
        mode, depth = mode or self.mode, self.depth if depth is None else depth
        self._require_mode(mode)
        asked = ("auto",) if facets is True else tuple(facets or ())
        return self.pipeline.search(
            SearchRequest(
                query, k, where, mode, depth, tuple(ignore), offset=offset, sort=sort, group_by=group_by,
                with_rules=with_rules, facets=asked, judge_ms=judge_ms, disjunctive=disjunctive,
            )
        )  # fmt: skip

    def rerank(
        self, judge: Judge | CalibratedJudge, depth: int = DEPTH, mode: str | None = None,
        judge_ms: float | None = None,
    ) -> Index:  # fmt: skip
        """The same index with a judge over its first `depth` results, as many of them as fit into judge_ms.

        The judge is told what the index knows of queries (its facts.jsonl and contexts.jsonl), unless it has its own
        notes.
        """
        self._require_mode(mode)
        judge = describing.pictured(judge, self.store)
        noted = judge if judge.notes is not None else judge.with_notes(self.notes(judge))
        return self.but(judge=noted, depth=depth, mode=mode or self.mode, judge_ms=judge_ms)

    def in_mode(self, mode: str) -> Index:
        """The same index, searched by words, by meaning, or by both."""
        self._require_mode(mode)
        return self.but(mode=mode)

    def taking_words_as_typed(self) -> Index:
        """The same index, to which "without X" and "under 50 euro" are plain words."""
        return self.but(as_typed=True)

    def with_rules(self, rules: RankingRules | str | Path) -> Index:
        """The same index with these ranking rules, or those of this file, in place of its own."""
        return self.but(rules=rules)

    def with_ranker(self, folder: str | Path, across_tiers: bool = False) -> Index:
        """The same index, whose results stand by predicted utility inside each tier of its judge; see RankerChoice."""
        from goodrate.api.ranker import RankerChoice

        return self.but(ranker=RankerChoice(Path(folder), across_tiers))

    def but(self, **changes: Any) -> Index:
        """The same index but for some of what __init__ takes."""
        return Index(**{**{name: getattr(self, name) for name in KEPT}, "rules": self._rules, **changes})

    @property
    def rules_file(self) -> Path | None:
        """Where its ranking rules are read from; None when they were given as such."""
        if self._rules is None:
            return self.store.path / RULES
        return Path(self._rules) if isinstance(self._rules, str | Path) else None

    @cached_property
    def rules(self) -> RankingRules:
        """The ranking rules of its searches, as they were when they were asked for first. Raises ValueError."""
        from goodrate.api.ranking import rules_of

        return rules_of(self.store, self._rules, self.store.path / RULES)

    def remember_grouping(self, name: str) -> None:
        """Group results so unless a search says otherwise: parent_id, title, ..., or "none"; see `search`."""
        from goodrate.api.ranking import write_grouping

        write_grouping(self.store, name)
        vars(self).pop("pipeline", None)

    @property
    def searcher(self) -> Searcher:
        """What finds items in it, without a judge."""
        from goodrate.retrieval.search import Searcher

        return Searcher(self.store, self.encoder, as_typed=self.as_typed, words=self.words, weights=self.online)

    def use_settings(self, settings: SearchSettings) -> None:
        """Search with these weights from here on: they are written into the index in its turn."""
        from goodrate.retrieval.turns import writing_turn

        with writing_turn(self.store.path):
            settings.write(self.store.path)
        vars(self).pop("pipeline", None)

    @cached_property
    def words(self) -> SearchWords:
        """Spelling, suggestions and synonyms of its folder, as they were when they were asked for first."""
        from goodrate.retrieval.search_words import SearchWords

        return SearchWords.load(self.store.path)

    def _require_mode(self, mode: str | None) -> None:
        """ValueError for a mode that the index cannot be searched in."""
        if mode is None or mode in self.modes:
            return
        if self.encoder is None:
            raise ValueError(f"{self.store.path} is searched without an encoder; only mode lexical is possible")
        raise ValueError(f"mode {mode!r} is not one of those of this index: {', '.join(self.modes)}")

    @property
    def has_contexts(self) -> bool:
        """Whether texts for judges lie in its folder."""
        return (self.store.path / CONTEXTS).is_file()

    def notes(
        self, judge: CalibratedJudge, facts: str | Path | None = None, contexts: str | None = None,
        context_encoder: str | None = None,
    ) -> QueryNotes:  # fmt: skip
        """What a judge is told of queries: facts and texts of these files, else of the index's folder."""
        from goodrate.api.judging import query_notes

        named = contexts or (str(self.store.path / CONTEXTS) if judge.contexts and self.has_contexts else None)
        own = self.store.path / FACTS
        known = facts if facts is not None else own if own.is_file() else None
        return query_notes(judge, known, named, lambda: self.items, context_encoder, self.store.path)

    @cached_property
    def pipeline(self) -> SearchPipeline:
        """What answers searches, safe to call from many threads."""
        from goodrate.retrieval.languages import rules_language
        from goodrate.serving.pipeline import SearchPipeline

        made = self.store.manifest
        return SearchPipeline(
            self.store, self.searcher, self.judge, self.modes, self.rules, made.group_by,
            rules_language(made.language) or "en", judge_ms=self.judge_ms, overrules=self.overrules,
            ranker=self.ranker.live(self.judge) if self.ranker else None, online=self.online,
        )  # fmt: skip


def _catalog(items: Catalog | Any) -> Catalog:
    """Items as a catalogue: one, a frame or a file."""
    from goodrate.api.reading import read_catalog
    from goodrate.catalog.items import Catalog

    return items if isinstance(items, Catalog) else read_catalog(items)
