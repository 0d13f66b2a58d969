"""What a chat server may answer: parameters under other names, refusals in its words, waits that it asks for."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from chat_server import ChatServer, chat_server
from goodrate.teaching.answer_store import AnswerStore
from goodrate.teaching.asking import Asker, Outcome
from goodrate.teaching.bare_answer import bare_answer
from goodrate.teaching.budget import Budget
from goodrate.teaching.chat_endpoint import Answer, ChatEndpoint, Patience, Unanswered

HASTY = Patience(tries=3, first_wait=0.01, timeout=60.0)
ASKED = [{"role": "user", "content": "hi"}]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with AnswerStore(tmp_path / "verdicts.sqlite") as opened:
        yield opened


def error(message: str, code: str | None = None) -> str:
    return json.dumps({"error": {"message": message, "code": code}})


def endpoint_of(server: ChatServer, patience: Patience = HASTY) -> ChatEndpoint:
    return ChatEndpoint(server.url, "big", max_answer_tokens=50, patience=patience)


def asker_of(server: ChatServer, store: AnswerStore, budget: Budget | None = None) -> Asker:
    return Asker(endpoint_of(server), store, budget, concurrency=1)


def said(answer: Answer) -> Outcome[str]:
    return Outcome(answer.text)


def questions(count: int) -> list[Any]:
    return [([{"role": "user", "content": f"number {n}"}], said) for n in range(count)]


def test_a_model_that_wants_max_completion_tokens_and_no_temperature_is_asked_so_from_then_on() -> None:
    def script(body: dict[str, Any], number: int) -> Any:
        if "max_tokens" in body:
            words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
            return 400, {}, error(words)
        if "temperature" in body:
            return 400, {}, error("Unsupported value: 'temperature' does not support 0 with this model.")
        return "yes"

    with chat_server(script) as server:
        endpoint = endpoint_of(server)
        assert endpoint.complete(ASKED, 0.0).text == "yes" and endpoint.complete(ASKED, 0.7).text == "yes"
        given = [sorted(set(body) - {"model", "messages"}) for body in server.requests]
        assert given == [
            ["max_tokens", "temperature"], ["max_completion_tokens", "temperature"], ["max_completion_tokens"],
            ["max_completion_tokens"],
        ]  # fmt: skip
        assert server.requests[-1]["max_completion_tokens"] == 50


def test_a_server_that_refuses_both_names_is_not_asked_for_ever() -> None:
    with chat_server(lambda body, number: (400, {}, error("no max_completion_tokens, no temperature"))) as server:
        with pytest.raises(Unanswered, match="http_400: no max_completion_tokens, no temperature"):
            endpoint_of(server).complete(ASKED, 0.0)
        assert len(server.requests) == 3


def test_the_words_of_a_400_are_kept_and_three_in_a_row_end_the_asking(store: AnswerStore) -> None:
    with chat_server(lambda body, number: (400, {}, error("context length is 512"))) as server:
        asker = asker_of(server, store)
        failures = [one.failure for one in asker.ask(questions(5))]
        assert failures == ["http_400"] * 3 + ["endpoint_down"] * 2 and len(server.requests) == 3
        assert asker.refused == {"http_400": "context length is 512"}


def test_a_400_of_a_server_that_answers_others_is_of_that_question_alone(store: AnswerStore) -> None:
    with chat_server(lambda body, number: (400, {}, error("content filter")) if 0 < number < 6 else "yes") as server:
        outcomes = asker_of(server, store).ask(questions(8))
        assert [one.found for one in outcomes] == ["yes", None, None, None, None, None, "yes", "yes"]


@pytest.mark.parametrize(
    ("status", "code"), [(401, None), (402, None), (403, None), (404, None), (429, "insufficient_quota")]
)
def test_refusals_that_no_other_question_mends_end_with_the_words(
    store: AnswerStore, status: int, code: str | None
) -> None:
    with chat_server(lambda body, number: (status, {}, error("not you", code))) as server:
        with pytest.raises(ValueError, match=rf"answers {status} for model 'big': not you$"):
            asker_of(server, store).ask(questions(3))
        assert len(server.requests) == 1


@pytest.mark.parametrize("body", ["", "[]", "{", '{"error": 5}', '[{"error": {"message": "told"}}]', "[" * 100_000])
def test_whatever_a_refusal_holds_it_is_shown(body: str) -> None:
    with chat_server(lambda asked, number: (403, {}, body)) as server:
        with pytest.raises(ValueError, match="answers 403 for model 'big':") as raised:
            endpoint_of(server).complete(ASKED, 0.0)
        assert len(str(raised.value)) < 450 and ("told" in str(raised.value)) == ("told" in body)


@pytest.mark.parametrize("dated", [False, True])
def test_an_hour_or_more_ends_the_run_and_the_same_command_goes_on(store: AnswerStore, dated: bool) -> None:
    asked = formatdate(time.time() + 7205, usegmt=True) if dated else "7200"
    with chat_server(
        lambda body, number: (429, {"Retry-After": asked}, error("daily limit")) if number else "yes"
    ) as server:
        with pytest.raises(
            ValueError, match=r"asks to wait 2.0 hours \(http_429: daily limit\); what was answered is kept"
        ):
            asker_of(server, store).ask(questions(3))
        assert len(server.requests) == 2
        server.script = lambda body, number: "yes"
        assert [one.found for one in asker_of(server, store).ask(questions(3))] == ["yes"] * 3
        assert len(server.requests) == 4  # the first answer was kept


def test_a_wait_of_minutes_is_told_and_kept_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    with chat_server(lambda body, number: "yes" if number else (503, {"Retry-After": "300"}, "busy")) as server:
        endpoint = endpoint_of(server)
        told: list[str] = []
        waits: list[float] = []
        endpoint.tell = told.append
        monkeypatch.setattr(endpoint.stop, "wait", lambda seconds: waits.append(seconds))
        assert endpoint.complete(ASKED, 0.0).text == "yes"
        assert 298 < waits[1] <= 300 and told == [f"{server.url} asks to wait 300 seconds (http_503: busy)"]
        endpoint.complete(ASKED, 0.0)
        assert waits[2] > 298  # every other question waits too


def test_thoughts_that_took_all_tokens_are_an_answer_that_was_cut_off(store: AnswerStore) -> None:
    with chat_server(lambda body, number: {"content": None, "reasoning_content": "hm"}, finish="length") as server:
        outcomes = asker_of(server, store).ask(questions(1))
        assert outcomes == [Outcome(None, "cut_off")] and len(server.requests) == 4  # paid, kept, never asked again
        assert asker_of(server, store).ask(questions(1)) == outcomes and len(server.requests) == 4


def test_content_in_parts_is_joined_and_what_is_no_message_is_tried_again() -> None:
    parts = {"content": [{"type": "text", "text": "ye"}, {"type": "text", "text": "s"}, 5]}
    with chat_server(lambda body, number: parts if number else {"content": 5}) as server:
        assert endpoint_of(server).complete(ASKED, 0.0).text == "yes" and len(server.requests) == 2


def test_a_count_of_tokens_that_cannot_be_is_guessed() -> None:
    with chat_server(lambda body, number: "yes", usage={"prompt_tokens": -5, "completion_tokens": 3}) as server:
        answer = endpoint_of(server).complete(ASKED, 0.0)
        # "hi" has 2 bytes, "yes" 3
        assert (answer.prompt_tokens, answer.completion_tokens, answer.estimated) == (1, 2, True)


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("<think>a\n4</think>\n3", "3"),
        ("a\n4</think>\n```\n3\n```", "3"),
        ("<Thinking>a</Thinking><think>b</think>3", "3"),
        ("<think>it may be 3", ""),
        ("```json\n{}\n```", "{}"),
        ("~~~\n{}\n~~~", "{}"),
        ("so: ```3```", "so: ```3```"),
    ],
)
def test_the_answer_without_thoughts_and_fences(text: str, bare: str) -> None:
    assert bare_answer(text) == bare


def test_a_prompt_is_counted_by_the_models_own_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    from goodrate.api.endpoints import Endpoint

    words = Tokenizer(WordLevel({"red": 0, "lamp": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer = Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    asked = [{"role": "system", "content": "red lamp"}, {"role": "user", "content": "a red red lamp"}]
    # 2 + 4 words, and 8 tokens around each message
    assert Endpoint("http://x", "m", tokenizer=tmp_path).size(asked) == 22
    # 8 and 14 bytes: 3 and 5
    assert Endpoint("http://x", "m").size(asked) == 8
    (tmp_path / "tokenizer.json").write_text("no")
    with pytest.raises(FileNotFoundError, match="--tokenizer .*absent: no file"):
        Endpoint("http://x", "m", tokenizer=tmp_path / "absent").check()
