"""Silver reasons from a language model behind a chat endpoint, verified against the gold label, within a budget."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.rulebook import RuleBook
from goodrate.teaching.answer_store import AnswerStore
from goodrate.teaching.budget import Budget
from goodrate.teaching.chat_endpoint import STOPPED, Answer, ChatEndpoint, Message, Unanswered, prompt_size
from goodrate.teaching.teacher import Progress, Taught
from goodrate.teaching.teacher_prompt import answer_key, graded, messages

TEMPERATURES = (0.0, 0.7, 0.7, 0.7)  # the first try, then up to three more (TaoSR1 data: papers/taosr1.md section 4)
COST_CAP, ENDPOINT_DOWN = "cost_cap", "endpoint_down"
DOWN_AFTER = 3  # pairs in a row without any answer: the others are not asked


class EndpointTeacher:
    """Asks for each pair until an answer is kept, at most four times. Every answer goes into the store at once.

    budget: counts the kept answers to these pairs too, so that the same command stops at the same cap.
    """

    silver = True

    def __init__(
        self,
        book: RuleBook,
        endpoint: ChatEndpoint,
        store: AnswerStore,
        budget: Budget | None = None,
        concurrency: int = 4,
    ) -> None:
        self.book, self.endpoint, self.store, self.concurrency = book, endpoint, store, concurrency
        self.budget = budget or Budget()
        self.name = f"endpoint:{endpoint.model}"
        self.requests = self.estimated = self.unasked = 0
        self._unanswered_in_a_row = 0
        self._lock = threading.Lock()

    def teach(self, pairs: Sequence[JudgedPair], progress: Progress | None = None) -> list[Taught]:
        """Reasons of the pairs; equal pairs are asked once. Failures: those of teacher_prompt.graded, cut_off, and

        cost_cap, endpoint_down or what Unanswered names: such a pair is asked when the command is given again.
        Raises ValueError when the endpoint refuses key, address or model.
        """
        prompts = [messages(pair, self.book) for pair in pairs]
        keys = [self._key(prompt) for prompt in prompts]
        jobs = {key: (prompt, pair.label) for key, prompt, pair in zip(keys, prompts, pairs, strict=True)}
        self.budget.settle((0, 0), self.store.spent(keys))
        self.endpoint.stop.clear()
        with ThreadPoolExecutor(self.concurrency) as pool:
            futures = {pool.submit(self._taught, key, prompt, label): key for key, (prompt, label) in jobs.items()}
            try:
                taught = _gathered(futures, Counter(keys), progress)
            except BaseException:
                self.endpoint.stop.set()  # what is under way is kept, what waits is dropped
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        answers = [taught[key] for key in keys]
        self.unasked = sum(answer.failure == COST_CAP for answer in answers)
        return answers

    def _key(self, prompt: Sequence[Message]) -> str:
        return answer_key(prompt, self.endpoint.model, self.endpoint.url, self.endpoint.max_answer_tokens)

    def _taught(self, key: str, prompt: Sequence[Message], label: int) -> Taught:
        """The first answer that can be kept, else the last one's failure."""
        failure = ""
        for attempt, temperature in enumerate(TEMPERATURES):
            answer = self.store.get(key, attempt)
            if answer is None:
                answer, failure = self._paid(prompt, temperature)
                if answer is None:
                    return Taught(None, self.silver, failure)
                self.store.put(key, attempt, answer)
            taught = _graded(answer, label, self.book)
            if taught.rationale is not None:
                return taught
            failure = taught.failure or ""
        return Taught(None, self.silver, failure)

    def _paid(self, prompt: Sequence[Message], temperature: float) -> tuple[Answer | None, str]:
        """A new answer, or why there is none."""
        if self._unanswered_in_a_row >= DOWN_AFTER:
            return None, ENDPOINT_DOWN
        if self.endpoint.stop.is_set():
            return None, STOPPED
        reserved = (prompt_size(prompt), self.endpoint.max_answer_tokens)
        if not self.budget.reserve(*reserved):
            return None, COST_CAP
        used = (0, 0)
        try:
            answer = self.endpoint.complete(prompt, temperature)
            used = (answer.prompt_tokens, answer.completion_tokens)
        except Unanswered as unanswered:
            self._count(None)
            return None, unanswered.name
        except ValueError:  # key, address or model: said here, so that no other thread begins another request
            self.endpoint.stop.set()
            raise
        finally:
            self.budget.settle(reserved, used)
        self._count(answer)
        return answer, ""

    def _count(self, answer: Answer | None) -> None:
        """Answers, guessed costs, and pairs in a row that got none."""
        with self._lock:
            self._unanswered_in_a_row = 0 if answer else self._unanswered_in_a_row + 1
            self.requests += answer is not None
            self.estimated += answer is not None and answer.estimated


def _graded(answer: Answer, label: int, book: RuleBook) -> Taught:
    """As teacher_prompt.graded; an answer that was cut off says so, whatever can be read of it."""
    return Taught(None, True, "cut_off") if answer.finish == "length" else graded(answer.text, label, book)


def _gathered(futures: dict[Future[Taught], str], shares: Counter[str], progress: Progress | None) -> dict[str, Taught]:
    """Results by key. shares: how many pairs each key stands for."""
    taught: dict[str, Taught] = {}
    done = 0
    for future in as_completed(futures):
        key = futures[future]
        taught[key] = future.result()
        done += shares[key]
        if progress:
            progress(done)
    return taught
