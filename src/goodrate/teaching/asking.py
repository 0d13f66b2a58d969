"""Many questions for a chat endpoint: asked in threads, within a budget, each answer kept and paid for once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Generic, TypeVar

from goodrate.teaching.answer_store import AnswerStore, answer_key
from goodrate.teaching.budget import Budget
from goodrate.teaching.chat_endpoint import STOPPED, Answer, ChatEndpoint, Message, Unanswered, prompt_size

TEMPERATURES = (0.0, 0.7, 0.7, 0.7)  # the first try, then up to three more (TaoSR1 data: papers/taosr1.md section 4)
COST_CAP, ENDPOINT_DOWN, CUT_OFF = "cost_cap", "endpoint_down", "cut_off"
DOWN_AFTER = 3  # questions in a row without any answer: the others are not asked
Found = TypeVar("Found")
Progress = Callable[[int], None]  # called with the number of questions done so far


@dataclass(frozen=True)
class Outcome(Generic[Found]):
    """What was read in an answer to one question; None and the name of the failure where nothing could be."""

    found: Found | None
    failure: str = ""


# From an answer to what is wanted of it, or to the name of what is wrong with it: then it is asked again.
Reader = Callable[[Answer], Outcome[Found]]
Question = tuple[Sequence[Message], Reader[Found]]


class Asker:
    """Asks each question until an answer can be read, at most four times. Every answer goes into the store at once.

    budget: counts the kept answers to these questions too, so that the same command stops at the same cap. size: the
    tokens of a prompt, before the server counts them. requests: answers paid for by this object; estimated: those that
    the server did not count. refused: the server's words by name of failure, the first of each.
    """

    def __init__(
        self,
        endpoint: ChatEndpoint,
        store: AnswerStore,
        budget: Budget | None = None,
        concurrency: int = 4,
        size: Callable[[Sequence[Message]], int] = prompt_size,
    ) -> None:
        self.endpoint, self.store, self.concurrency, self.size = endpoint, store, concurrency, size
        self.budget = budget or Budget()
        self.requests = self.estimated = self.unasked = 0
        self.refused: dict[str, str] = {}
        self._unanswered_in_a_row = 0
        self._lock = threading.Lock()

    def key(self, prompt: Sequence[Message]) -> str:
        """Under which the answers to a prompt are kept."""
        return answer_key(prompt, self.endpoint.model, self.endpoint.url, self.endpoint.max_answer_tokens)

    def ask(self, questions: Sequence[Question[Found]], progress: Progress | None = None) -> list[Outcome[Found]]:
        """One outcome a question; of questions with equal prompts the last is asked, once.

        Failures: what the readers say, cut_off, cost_cap, endpoint_down, or what Unanswered names; but for the first
        two the question is asked when the command is given again. Raises ValueError when the endpoint refuses key,
        account, address or model, or asks to wait an hour or longer.
        """
        keys = [self.key(prompt) for prompt, _ in questions]
        jobs = dict(zip(keys, questions, strict=True))
        self.budget.settle((0, 0), self.store.spent(keys))
        self.endpoint.stop.clear()
        with ThreadPoolExecutor(self.concurrency) as pool:
            futures: dict[Future[Outcome[Found]], str] = {
                pool.submit(self._outcome, key, prompt, read): key for key, (prompt, read) in jobs.items()
            }
            try:
                found = _gathered(futures, Counter(keys), progress)
            except BaseException:
                self.endpoint.stop.set()  # what is under way is kept, what waits is dropped
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        outcomes = [found[key] for key in keys]
        self.unasked = sum(outcome.failure == COST_CAP for outcome in outcomes)
        return outcomes

    def _outcome(self, key: str, prompt: Sequence[Message], read: Reader[Found]) -> Outcome[Found]:
        """The first answer that can be read, else the last one's failure."""
        outcome: Outcome[Found] = Outcome(None)
        for attempt, temperature in enumerate(TEMPERATURES):
            answer = self.store.get(key, attempt)
            if answer is None:
                answer, failure = self._paid(prompt, temperature)
                if answer is None:
                    return Outcome(None, failure)
                self.store.put(key, attempt, answer)
            outcome = Outcome(None, CUT_OFF) if answer.finish == "length" else read(answer)
            if outcome.found is not None:
                return outcome
        return outcome

    def _paid(self, prompt: Sequence[Message], temperature: float) -> tuple[Answer | None, str]:
        """A new answer, or why there is none."""
        if self._unanswered_in_a_row >= DOWN_AFTER:
            return None, ENDPOINT_DOWN
        if self.endpoint.stop.is_set():
            return None, STOPPED
        reserved = (self.size(prompt), self.endpoint.max_answer_tokens)
        if not self.budget.reserve(*reserved):
            return None, COST_CAP
        used = (0, 0)
        try:
            answer = self.endpoint.complete(prompt, temperature)
            used = (answer.prompt_tokens, answer.completion_tokens)
        except Unanswered as unanswered:
            self._count_unanswered(unanswered)
            return None, unanswered.name
        except ValueError:  # key, address or model: said here, so that no other thread begins another request
            self.endpoint.stop.set()
            raise
        finally:
            self.budget.settle(reserved, used)
        with self._lock:
            self._unanswered_in_a_row = 0
            self.requests += 1
            self.estimated += answer.estimated
        return answer, ""

    def _count_unanswered(self, unanswered: Unanswered) -> None:
        """Questions in a row without an answer. One that is refused by a server that answers others is not counted."""
        with self._lock:
            self.refused.setdefault(unanswered.name, unanswered.words)
            alive = unanswered.name.startswith("http_4") and unanswered.name != "http_429" and self.requests
            self._unanswered_in_a_row += not alive


def _gathered(
    futures: dict[Future[Outcome[Found]], str], shares: Counter[str], progress: Progress | None
) -> dict[str, Outcome[Found]]:
    """Outcomes by key. shares: how many questions each key stands for."""
    found: dict[str, Outcome[Found]] = {}
    done = 0
    for future in as_completed(futures):
        key = futures[future]
        found[key] = future.result()
        done += shares[key]
        if progress:
            progress(done)
    return found
