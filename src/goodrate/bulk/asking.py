"""Questions for an endpoint asked by workers; the answers come back, and are kept by the asking program."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.bulk.cluster import Cluster

if TYPE_CHECKING:
    import pyarrow as pa

    from goodrate.scale import RelevanceScale
    from goodrate.teaching.answer_store import AnswerStore
    from goodrate.teaching.budget import Prices
    from goodrate.teaching.chat_endpoint import Message

QUESTIONS = 50  # of a block: what a worker that dies has to ask, and pay for, again


@dataclass(frozen=True)
class Address:
    """Who is asked, as every worker asks. concurrency: of one worker. tokens, cost: what one may spend, None = any."""

    url: str
    model: str
    key: str
    max_answer_tokens: int
    concurrency: int
    timeout: float
    prices: Prices
    tokens: int | None = None
    cost: float | None = None


def ask(
    cluster: Cluster, address: Address, scale: RelevanceScale, prompts: Sequence[Sequence[Message]], store: AnswerStore
) -> Iterator[int]:
    """Ask for labels and keep the answers in the store; gives how many questions each block had."""
    import json

    import pyarrow as pa

    texts = [json.dumps(list(prompt)) for prompt in prompts]
    blocks = [pa.table({"prompt": texts[start : start + QUESTIONS]}) for start in range(0, len(texts), QUESTIONS)]
    for table in cluster.stream(blocks, AskWorker, (address, scale)):
        store.put_rows([tuple(row.values()) for row in table.drop_columns(["questions"]).to_pylist() if row["key"]])
        yield table["questions"][0].as_py()


class AskWorker:
    """What asks an endpoint, in a process of its own."""

    def __init__(self, address: Address, scale: RelevanceScale) -> None:
        from goodrate.teaching.budget import Budget
        from goodrate.teaching.chat_endpoint import ChatEndpoint, Patience

        self.address, self.scale = address, scale
        patience = Patience(timeout=address.timeout)
        self.endpoint = ChatEndpoint(address.url, address.model, address.key, address.max_answer_tokens, patience)
        self.budget = Budget(address.tokens, address.cost, address.prices)

    def __call__(self, block: pa.Table) -> pa.Table:
        """All answers to a block of questions, unreadable ones too: a row each, one without a key where none came."""
        import json

        import pyarrow as pa

        from goodrate.teaching.answer_store import KEPT, AnswerStore
        from goodrate.teaching.asking import Asker
        from goodrate.teaching.label_answer import read_label

        def read(answer: Any) -> Any:
            return read_label(answer, self.scale)

        prompts = [json.loads(prompt) for prompt in block["prompt"].to_pylist()]
        with tempfile.TemporaryDirectory() as folder, AnswerStore(Path(folder) / "answers.sqlite") as store:
            Asker(self.endpoint, store, self.budget, self.address.concurrency).ask([(one, read) for one in prompts])
            rows = [dict(zip(KEPT, row, strict=True)) for row in store.rows()] or [dict.fromkeys(KEPT)]
        kinds = [pa.int64() if name in NUMBERS else pa.string() for name in KEPT]
        table = pa.Table.from_pylist(rows, pa.schema(list(zip(KEPT, kinds, strict=True))))
        return table.append_column("questions", pa.array([len(prompts)] * len(rows)))


NUMBERS = {"attempt", "prompt_tokens", "completion_tokens", "estimated"}
