"""Search an index by identifiers, by words, by their synonyms and by meaning."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from goodrate.catalog.normal_form import composed_text
from goodrate.retrieval.calibration import Calibration, read_calibration
from goodrate.retrieval.coverage import LANGUAGES, asked_words, covered
from goodrate.retrieval.facets import Facets, count_facets
from goodrate.retrieval.fusion import ChannelPart, FusedHit, Hit, Instead
from goodrate.retrieval.hybrid import CHANNEL_DEPTH, CHANNELS, Covering, channel_features, fused
from goodrate.retrieval.indexing import ItemEncoder
from goodrate.retrieval.languages import rules_language
from goodrate.retrieval.rewriting.exclusions import violations
from goodrate.retrieval.rewriting.query_constraints import QueryConstraints, read_query
from goodrate.retrieval.rewriting.spelling import Change, Correction
from goodrate.retrieval.rewriting.suggestions import Suggestion
from goodrate.retrieval.search_settings import SearchSettings, read_settings
from goodrate.retrieval.search_words import SearchWords
from goodrate.retrieval.store import Store
from goodrate.retrieval.weighing import FURTHER, ChannelWeights, with_further

MAX_QUERY = 2000  # characters; 10,000 words cost the full text seconds even on 300 items
MODES = ("hybrid", "lexical", "dense")
# Of the best, those that have what the query excludes go last; deeper, what moves up has little to do with the query.
DEMOTED_AMONG = 50
OPTIONAL = ("identifier", "synonym")  # channels that are not there when they find nothing
FACET_ROWS = 20_000  # items that facets are counted over: a word of more items costs more than it tells
FACET_READS = 3
SPELLING = "spelling"  # the id under which a correction can be ignored


@dataclass(frozen=True)
class QueryReading:
    """What a query says. text: what is searched for, with exclusions and without prices. typed: whether the query was
    not corrected. correction: the whole query as it was probably meant, used when it is sure. constraints: None
    without rules.
    """

    text: str
    typed: bool = True
    correction: Correction | None = None
    constraints: QueryConstraints | None = None


class Searcher:
    """An index with the encoder that made it. Raises ValueError when it is another encoder.

    channels: those that hybrid asks; None = all that the index has. as_typed: take every word as it stands: no
    "without X" and "under 50 euro" as an exclusion and a price by the rules of the index's language, no correction, no
    synonym. words: those of the index; None = it corrects and expands nothing, and knows no floor. settings: None =
    those of the index folder. weights: of the channels of hybrid searches; None = as the settings say.
    """

    def __init__(
        self, store: Store, encoder: ItemEncoder | None, channels: Sequence[str] | None = None,
        as_typed: bool = False, words: SearchWords | None = None, settings: SearchSettings | None = None,
        weights: ChannelWeights | None = None,
    ) -> None:  # fmt: skip
        if encoder is not None:
            store.require_encoder(encoder.fingerprint)
        self.store = store
        self.encoder, self.weights = encoder, weights
        self._rules = None if as_typed else rules_language(store.manifest.language)
        self._words = words if words is not None and not as_typed else SearchWords()
        self._known = words if words is not None else SearchWords()
        self.settings = settings if settings is not None else read_settings(store.path)
        self.calibration = read_calibration(store) if encoder else Calibration(items=0)
        self.channels = tuple(channels) if channels else CHANNELS if encoder else CHANNELS[:2]

    def read(self, query: str, ignore: Collection[str] = ()) -> QueryReading:
        """What the query says. ignore: ids of spans that are plain words, and SPELLING for no correction.

        Raises ValueError for more than MAX_QUERY characters, of which the words channel would take seconds.
        """
        if len(query) > MAX_QUERY:
            raise ValueError(f"a query of {len(query):,} characters; at most {MAX_QUERY:,} are searched for")
        first = self._constraints(query, ignore)
        correction = _in_query(query, self._words.correct(first.positive if first else query))
        if correction is None or not correction.sure or SPELLING in ignore:
            return QueryReading(first.searchable if first else query, True, correction, first)
        again = self._constraints(correction.text, ignore)
        return QueryReading(again.searchable if again else correction.text, False, correction, again)

    def suggest(self, typed: str, k: int) -> list[Suggestion]:
        """What somebody who has typed so far may want to type, at most k."""
        return self._words.suggest(typed, k)

    def _constraints(self, query: str, ignore: Collection[str]) -> QueryConstraints | None:
        return None if self._rules is None else read_query(composed_text(query), self._rules, ignore)

    def search(
        self, query: str, k: int = 10, where: str | None = None, mode: str | None = None, ignore: Collection[str] = ()
    ) -> list[FusedHit]:
        """The best k items, best first, each with the part of every channel. Fewer come back when fewer match.

        A price in the query filters (items without a price stay), and of the first DEMOTED_AMONG items those that have
        what the query excludes go last: docs/query_constraints.md. ignore: ids of such parts that are plain words.
        mode: hybrid (identifiers, words and meaning), lexical (identifiers and words) or dense (meaning alone); None
        means hybrid, or lexical without an encoder. Where one channel alone finds items in mode lexical or dense, the
        score is that channel's own (BM25, or the cosine). A query without a letter or digit finds nothing, and one of
        unknown words finds nothing by meaning unless an item is nearer to it than to non-words, by a margin where it
        shares nothing with the catalogue (calibration).
        """
        if not query.strip():
            raise ValueError("the query is empty")
        return self.find(self.read(query, ignore), k, where, mode)

    def find(
        self, read: QueryReading, k: int = 10, where: str | None = None, mode: str | None = None
    ) -> list[FusedHit]:
        """The best k items for a query that was read; see search."""
        mode = mode or ("hybrid" if self.encoder else "lexical")
        if mode not in MODES:
            raise ValueError(f"unknown mode {mode!r}; accepted: {', '.join(MODES)}")
        if mode != "lexical" and self.encoder is None:
            raise ValueError(f"{self.store.path} is searched without an encoder; only mode lexical is possible")
        if not any(sign.isalnum() for sign in read.text):
            return []
        both = self.condition(read, where)
        texts = TextsReadOnce(self.store)
        if read.constraints is None or not read.constraints.must_not:
            return self._retrieve(read.text, k, both, mode, texts)
        found = self._retrieve(read.text, max(k, DEMOTED_AMONG), both, mode, texts)
        return self._demoted(found, read.constraints, texts)[:k]

    def condition(self, read: QueryReading, where: str | None = None) -> str | None:
        """The filter under which `find` searches: `where`, and the price that the query names.

        A price with a currency filters items of that currency, where some have it, and of none.
        """
        price = read.constraints.price if read.constraints else None
        currencies = self._currencies() if price and price.currency else ()
        limits = [f"({where})" if where else None, price.where(currencies=currencies) if price else None]
        return " AND ".join(limit for limit in limits if limit) or None

    def _currencies(self) -> list[str]:
        """In which the index has prices."""
        known = self.store.facets.table().field("currency")
        return [] if known is None else known.values.to_list()

    def facets(
        self, read: QueryReading, asked: Sequence[str], where: str | None, mode: str, hits: Sequence[FusedHit],
        without: Sequence[str | Sequence[str]] = (),
    ) -> Facets:  # fmt: skip
        """The facets asked for (facets.checked_names) of a search that found these hits.

        Counted over the hits and, unless the mode is dense, over every item that shares a word with the query or with
        one of its synonyms and that the filter lets through; of a text that more than FACET_ROWS items share a word
        with, over the best so many. without: filters, and lists of ids, of items that are left out.
        """
        both = self.condition(read, where)
        for _ in range(FACET_READS):
            rows, complete = self._rows(read.text, both, mode, hits)
            for items in without:
                own = self.store.facets.of_filter(items) if isinstance(items, str) else self._of_ids(items)
                rows = np.setdiff1d(rows, own)
            table = self.store.facets.table()
            places, known = table.found(rows)
            if known:  # otherwise the index was written to in between
                break
        return count_facets(table, places, asked, complete)

    def _rows(self, query: str, where: str | None, mode: str, hits: Sequence[FusedHit]) -> tuple[np.ndarray, bool]:
        """Row numbers of what facets are counted over, and whether that is all that matches."""
        texts = [] if mode == "dense" else [query, *(other.text for other in self._words.expand(query))]
        found = [self.store.facets.of_text(text, where, FACET_ROWS) for text in texts]
        others = [hit.item_id for hit in hits if "lexical" not in hit.channels]
        rows = np.concatenate([*found, self._of_ids(others, where)])
        return rows, mode != "dense" and all(len(one) < FACET_ROWS for one in found)

    def _of_ids(self, ids: Sequence[str], where: str | None = None) -> np.ndarray:
        return self.store.facets.of_ids(ids, where)

    def _demoted(self, hits: list[FusedHit], read: QueryConstraints, known: TextsReadOnce) -> list[FusedHit]:
        """The hits, of the first DEMOTED_AMONG those last that have what is excluded, ranked by their places."""
        head = hits[:DEMOTED_AMONG]
        texts = known.of([hit.item_id for hit in head])
        excluded = violations(read.must_not, [texts.get(hit.item_id) for hit in head])
        order = sorted(range(len(head)), key=lambda place: excluded[place])
        moved = [replace(head[place], excluded=excluded[place]) for place in order]
        return [replace(hit, rank=rank) for rank, hit in enumerate([*moved, *hits[DEMOTED_AMONG:]], start=1)]

    def _retrieve(
        self, query: str, k: int, where: str | None, mode: str, texts: TextsReadOnce
    ) -> list[FusedHit]:  # fmt: skip
        """What the channels of a mode find."""
        found = self.found(query, k, where, mode)
        if mode != "hybrid" and len(found) == 1:
            return _single(*found.popitem(), k)
        factors = self.weights.factors() if self.weights is not None and mode == "hybrid" else None
        every = self.with_further(found, list(factors)) if factors is not None else found
        depth = max(k, CHANNEL_DEPTH)
        return fused(every, self.settings, self.calibration, k, depth, factors, self._covering(query, texts))

    def _covering(self, query: str, known: TextsReadOnce) -> Covering | None:
        """What of a query's words items have; None where words are compared by the engine alone."""
        spelling = self._known.spelling
        if spelling is None or self.store.manifest.language not in LANGUAGES:
            return None
        ways = [query, *(other.text for other in self._words.expand(query))]
        asked, *others = (asked_words(way, spelling.vocabulary, self.calibration.items) for way in ways)

        def covering(ids: Sequence[str]) -> Instead:
            texts = known.of(ids)
            return covered(asked, others, {item: texts.get(item, "") for item in ids})

        return covering

    def with_further(
        self, found: Mapping[str, Sequence[Hit]], channels: Sequence[str]
    ) -> dict[str, Sequence[Hit]]:  # fmt: skip
        """What was found, with those channels of weighing.FURTHER that are named."""
        ids = list(dict.fromkeys(hit.item_id for hits in found.values() for hit in hits))
        named = set(channels) & set(FURTHER)
        return with_further(found, self.store.known_items(ids), channels) if named and ids else dict(found)

    def features(
        self, query: str, channels: Sequence[str], where: str | None = None
    ) -> tuple[list[str], np.ndarray]:  # fmt: skip
        """Of a hybrid search for a query: ids (K,) and what each channel says of them (K, C); see channel_features."""
        read = self.read(query)
        if not any(sign.isalnum() for sign in read.text):
            return [], np.zeros((0, len(channels)))
        found = self.found(read.text, CHANNEL_DEPTH, self.condition(read, where), "hybrid")
        every, covering = self.with_further(found, channels), self._covering(read.text, TextsReadOnce(self.store))
        return channel_features(every, self.settings, self.calibration, channels, covering)

    def found(self, query: str, k: int, where: str | None, mode: str) -> dict[str, list[Hit]]:
        """What each channel of a mode finds, best first: at least k hits each, where there are so many.

        query: the text that is searched for.
        """
        asked = {"lexical": CHANNELS[:2], "dense": CHANNELS[2:], "hybrid": self.channels}[mode]
        depth = k if len(asked) == 1 else max(k, CHANNEL_DEPTH)
        found = {channel: self._hits(channel, query, depth, where) for channel in asked}
        if "lexical" in asked:
            found["synonym"] = self._synonym_hits(query, depth, where)
        return {channel: hits for channel, hits in found.items() if hits or channel not in OPTIONAL}

    def _synonym_hits(self, query: str, k: int, where: str | None) -> list[Hit]:
        """What the query finds when it is asked in other words; an item has the best score of all ways."""
        best: dict[str, float] = {}
        for other in self._words.expand(query):
            for hit in self._text_hits(other.text, k, where):
                best[hit.item_id] = max(hit.score, best.get(hit.item_id, 0.0))
        ordered = sorted(best, key=lambda item: (-best[item], item))[:k]
        return [Hit(item, best[item], rank) for rank, item in enumerate(ordered, start=1)]

    def _hits(self, channel: str, query: str, k: int, where: str | None) -> list[Hit]:
        """What one channel finds."""
        if channel == "identifier":
            return self.store.search_identifiers(query, k, where)
        return self._text_hits(query, k, where) if channel == "lexical" else self._near(query, k, where)

    def _text_hits(self, query: str, k: int, where: str | None) -> list[Hit]:
        return self.store.search_text(query, k, where, self.settings.attribute_weight)

    def _near(self, query: str, k: int, where: str | None) -> list[Hit]:
        """The items nearest to a query; none where nothing in the index is as near as _floor asks."""
        assert self.encoder is not None
        vector = self.encoder.encode_queries([composed_text(query)])[0]
        hits = self.store.search_vector(vector, k, where)
        floor = self._floor(query, hits[0].score) if hits else None
        if floor is None:
            return hits
        nearest = hits if where is None else self.store.search_vector(vector, 1)
        return hits if nearest and nearest[0].score > floor else []

    def _floor(self, query: str, nearest: float) -> float | None:
        """How near an item must be to a query, where one at `nearest` may not be; None for known words."""
        floor, high = self.calibration.floor, self.calibration.strangers_floor
        if floor is None or high is None or not self.settings.floor or nearest > high or self._known.knows(query):
            return None
        return high if self._known.is_strange(query) else floor


class TextsReadOnce:
    """What the full text reads of items; of each item it is read from the store once in a search."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, str] = {}
        self._asked: set[str] = set()

    def of(self, ids: Sequence[str]) -> dict[str, str]:
        """id -> text of those of these items that are there."""
        new = [item for item in ids if item not in self._asked]
        if new:
            self._asked.update(new)
            self._known |= self._store.known_texts(new)
        return {item: self._known[item] for item in ids if item in self._known}


def _single(channel: str, hits: list[Hit], k: int) -> list[FusedHit]:
    """The hits of one channel in the shape of fused ones."""
    return [FusedHit(h.item_id, h.score, h.rank, {channel: ChannelPart(h.rank, h.score, 1.0)}) for h in hits[:k]]


def _in_query(query: str, found: Correction | None) -> Correction | None:
    """A correction of a part of a query, as one of the whole."""
    if found is None or found.changes == ():
        return None
    text, changes = composed_text(query), []
    for change in found.changes:
        place = re.search(rf"(?<!\w){re.escape(change.typed)}(?!\w)", text)
        if place is None:
            return None
        start, meant = place.start(), found.text[change.start : change.end]
        text = text[:start] + meant + text[place.end() :]
        changes.append(Change(start, start + len(meant), change.typed))
    return Correction(text, tuple(changes), found.sure)
