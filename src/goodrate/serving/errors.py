"""The one shape of every error, and which exception is which status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from goodrate.serving.api_description import refusal
from goodrate.serving.bodies import error_answer
from goodrate.serving.records import IndexUnavailable, NoEncoder, NoJudge, UnknownItem


def add_errors(app: FastAPI) -> None:
    """Every error has one shape: bodies.error_answer."""

    @app.exception_handler(RequestValidationError)
    def _fields(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = [_problem(detail) for detail in error.errors()]
        message = "; ".join(f"{problem['field']}: {problem['problem']}" for problem in problems)
        return error_answer(422, message, problems)

    @app.exception_handler(ValueError)
    def _value(_: Request, error: ValueError) -> JSONResponse:
        return error_answer(400, str(error))

    @app.exception_handler(UnknownItem)
    def _unknown_item(_: Request, error: UnknownItem) -> JSONResponse:
        return error_answer(404, str(error))

    @app.exception_handler(IndexUnavailable)
    def _unavailable(_: Request, error: IndexUnavailable) -> JSONResponse:
        return error_answer(503, str(error))

    @app.exception_handler(NoEncoder)
    @app.exception_handler(NoJudge)
    def _no_model(_: Request, error: Exception) -> JSONResponse:
        return error_answer(501, str(error))

    @app.exception_handler(HTTPException)
    def _http(request: Request, error: HTTPException) -> JSONResponse:
        status, headers = refusal(error.status_code, request)
        message = str(error.detail) if status == error.status_code else "Method Not Allowed"
        answer = error_answer(status, message)
        answer.headers.update({**(error.headers or {}), **headers})
        return answer


def _problem(detail: Mapping[str, Any]) -> dict[str, str]:
    """One validation error: "pairs.0.query" and what is wrong with it."""
    place = ".".join(str(part) for part in detail["loc"][1:]) or "request"  # loc[0] is body or query: where it came
    return {"field": place, "problem": str(detail["msg"]).removeprefix("Value error, ")}
