"""The bodies of /rerank, /score, /v1/embeddings, /embed and their like, as the clients of other servers send them.

Fields that only those servers' models know are ignored. What is too long is cut, and `cuts` of the answer say so: their
clients have no other query to send.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from goodrate.serving.requests import MAX_QUERY_CHARACTERS, MAX_TEXT_CHARACTERS, MAX_TEXTS


class ClientBody(BaseModel):
    """Their bodies: a null where a text is expected is refused, and what is not known is no error."""

    model_config = ConfigDict(extra="ignore")


class RerankBody(ClientBody):
    """POST /rerank: `documents` as Cohere, Jina and vLLM name them, or `texts` as TEI does."""

    query: str = Field(min_length=1)
    documents: list[str | dict[str, Any]] | None = Field(None, min_length=1, max_length=MAX_TEXTS)
    texts: list[str] | None = Field(None, min_length=1, max_length=MAX_TEXTS)
    model: str | None = None
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False
    rank_fields: list[str] | None = None
    raw_scores: bool = False
    return_text: bool = False

    @model_validator(mode="after")
    def _one_list(self) -> RerankBody:
        if (self.documents is None) == (self.texts is None):
            raise ValueError("documents: expected either documents (Cohere, Jina, vLLM) or texts (TEI)")
        return self

    def given(self) -> Sequence[str | dict[str, Any]]:
        """What is to be ordered, as it was sent."""
        return self.texts if self.texts is not None else self.documents or []

    def item_ids(self) -> list[str]:
        """The item_id of each document, by which people's verdicts are found; "" for none."""
        return [str(one.get("item_id") or "") if isinstance(one, dict) else "" for one in self.given()]

    def read(self) -> list[str]:
        """One text per document: the string, its rank_fields, or its "text" field; "" for one with an item_id alone,
        which is the item of the index.

        Raises ValueError naming the document and the field that it lacks, or that is no text.
        """
        return [self._text(position, document) for position, document in enumerate(self.given())]

    def _text(self, position: int, document: str | dict[str, Any]) -> str:
        if isinstance(document, str):
            return document
        if is_item_id(document):
            return ""
        fields = self.rank_fields or ["text"]
        missing = [name for name in fields if name not in document]
        if missing:
            raise ValueError(f"documents[{position}] has no field {missing[0]!r}; it has: {', '.join(document)}")
        for name in fields:
            if not isinstance(document[name], str | int | float) or isinstance(document[name], bool):
                found = json.dumps(document[name])[:60]
                raise ValueError(f"documents[{position}].{name}: expected a text or a number, found {found}")
        return " ".join(str(document[name]) for name in fields)


def is_item_id(document: str | dict[str, Any]) -> bool:
    """Whether a document is the id of an item and nothing else.

    >>> is_item_id({"item_id": "a5"}), is_item_id({"item_id": "a5", "text": "lamp"})
    (True, False)
    """
    return isinstance(document, dict) and document.keys() == {"item_id"} and isinstance(document["item_id"], str)


class ScoreBody(ClientBody):
    """POST /score, as vLLM has it: one text or several against one or as many. text_1 are queries, text_2 items."""

    text_1: str | list[str]
    text_2: str | list[str]
    model: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _other_names(cls, body: Any) -> Any:
        """vLLM's other names of the two: queries and documents (or items), data_1 and data_2."""
        if not isinstance(body, dict):
            return body
        for name, others in (("text_1", ("queries", "data_1")), ("text_2", ("documents", "items", "data_2"))):
            given = [other for other in others if other in body]
            if name not in body and given:
                body = {**body, name: body[given[0]]}
        return body

    def pairs(self) -> list[tuple[str, str]]:
        """(query, text), in the order of text_2. Raises ValueError when the numbers do not fit."""
        queries, texts = _listed(self.text_1), _listed(self.text_2)
        if not queries or not texts or len(texts) > MAX_TEXTS or len(queries) not in (1, len(texts)):
            raise ValueError(
                f"text_1 has {len(queries)} texts and text_2 {len(texts)}; expected one or as many as there are in "
                f"text_2, and 1 to {MAX_TEXTS:,} in that"
            )
        if "" in queries:
            raise ValueError("text_1: a query is empty")
        return list(zip(queries * len(texts) if len(queries) == 1 else queries, texts, strict=True))


class EmbeddingsBody(ClientBody):
    """POST /v1/embeddings, as OpenAI's and Jina's clients send it.

    task, input_type, prompt_name: Jina's, NVIDIA's and Cohere's words for what the texts are; a model name that ends
    in -query says it too.
    """

    input: str | list[Any]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    embedding_type: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    task: str | None = None
    input_type: str | None = None
    prompt_name: str | None = None

    def read(self) -> list[str]:
        """The texts. Raises ValueError for tokens, pictures and what else is no text."""
        return list(_texts("input", [self.input] if isinstance(self.input, str) else self.input))

    @property
    def base64(self) -> bool:
        """Whether vectors are wanted as text rather than as numbers."""
        return "base64" in (self.encoding_format, self.embedding_type)

    @property
    def query(self) -> bool:
        """Whether the texts are queries; else they are items."""
        return _is_query(self.task, self.input_type, self.prompt_name) or (self.model or "").endswith("-query")


class TeiEmbedBody(ClientBody):
    """POST /embed, as TEI has it."""

    inputs: str | list[Any]
    dimensions: int | None = Field(None, ge=1)
    prompt_name: str | None = None

    def read(self) -> list[str]:
        """The texts. Raises ValueError for tokens."""
        return list(_texts("inputs", [self.inputs] if isinstance(self.inputs, str) else self.inputs))

    @property
    def query(self) -> bool:
        """Whether the texts are queries."""
        return _is_query(self.prompt_name)


class CohereEmbedBody(ClientBody):
    """POST /v2/embed, as Cohere's client sends it."""

    texts: list[str] = Field(min_length=1, max_length=MAX_TEXTS)
    model: str | None = None
    input_type: str | None = None
    embedding_types: list[str] | None = None
    output_dimension: int | None = Field(None, ge=1)

    @property
    def query(self) -> bool:
        """Whether the texts are queries."""
        return _is_query(self.input_type)

    @model_validator(mode="after")
    def _floats(self) -> CohereEmbedBody:
        if not set(self.embedding_types or ()) <= {"float", "base64"}:
            raise ValueError(f"embedding_types {self.embedding_types}: expected float or base64")
        return self


def _is_query(*said: str | None) -> bool:
    """retrieval.query, search_query, query."""
    return any("query" in one.lower() for one in said if one)


def _listed(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


def _texts(name: str, given: Sequence[Any]) -> Iterator[str]:
    """Texts, and objects with a text. Raises ValueError naming the first that is neither."""
    if not 1 <= len(given) <= MAX_TEXTS:
        raise ValueError(f"{name} has {len(given):,} texts; expected 1 to {MAX_TEXTS:,}")
    for place, one in enumerate(given):
        text = one.get("text") if isinstance(one, dict) else one
        if not isinstance(text, str):
            way_out = "; a client that sends token ids must send texts (LangChain: check_embedding_ctx_length=False)"
            tokens = isinstance(one, int | list) and not isinstance(one, bool)
            raise ValueError(
                f"{name}[{place}]: expected a text, found {json.dumps(one)[:60]}{way_out if tokens else ''}"
            )
        yield text


def cut(query: str, texts: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """Query and texts as long as they may be, and a line for each of the two that lost its end."""
    said = []
    if len(query) > MAX_QUERY_CHARACTERS:
        said.append(f"the query has {len(query):,} characters; the first {MAX_QUERY_CHARACTERS:,} were read")
    long = sum(len(text) > MAX_TEXT_CHARACTERS for text in texts)
    if long:
        said.append(f"{long:,} texts are longer than {MAX_TEXT_CHARACTERS:,} characters; their beginnings were read")
    return query[:MAX_QUERY_CHARACTERS], [text[:MAX_TEXT_CHARACTERS] for text in texts], said
