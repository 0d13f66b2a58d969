"""Silver reasons from a language model behind a chat endpoint, verified against the gold label, within a budget."""

from __future__ import annotations

from collections.abc import Sequence

from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.rationale import Rationale
from goodrate.relevance.rulebook import RuleBook
from goodrate.teaching.asking import Asker, Outcome, Question
from goodrate.teaching.chat_endpoint import Answer
from goodrate.teaching.teacher import Progress, Taught
from goodrate.teaching.teacher_prompt import graded, messages


class EndpointTeacher:
    """Asks for each pair until a reason can be kept, at most four times. asker: who is asked, and what it costs."""

    silver = True

    def __init__(self, book: RuleBook, asker: Asker) -> None:
        self.book, self.asker = book, asker
        self.name = f"endpoint:{asker.endpoint.model}"

    def teach(self, pairs: Sequence[JudgedPair], progress: Progress | None = None) -> list[Taught]:
        """Reasons of the pairs; equal pairs are asked once. Failures: those of teacher_prompt.graded and of Asker.ask.

        Raises as Asker.ask.
        """
        outcomes = self.asker.ask([self._question(pair) for pair in pairs], progress)
        return [Taught(one.found, self.silver, one.failure or None) for one in outcomes]

    def _question(self, pair: JudgedPair) -> Question[Rationale]:
        def read(answer: Answer) -> Outcome[Rationale]:
            taught = graded(answer.text, pair.label, self.book)
            return Outcome(taught.rationale, taught.failure or "")

        return messages(pair, self.book), read
