"""/openapi.json: every status that an answer can have, with the one shape of every error."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.routing import Match

ERROR = "ErrorAnswer"
TEXT = {"type": "string"}
PROBLEM = {
    "type": "object", "properties": {"field": TEXT, "problem": TEXT}, "required": ["field", "problem"],
}  # fmt: skip
SHAPE = {
    "type": "object", "required": ["message", "errors", "detail"],
    "properties": {"message": TEXT, "errors": {"type": "array", "items": PROBLEM}, "detail": TEXT},
}  # fmt: skip
STATUSES = {
    "400": "What is asked for cannot be: a filter, field, mode or label that is none, or a body that is no JSON.",
    "401": "The server takes tokens, and this one is missing or unknown.",
    "403": "The server does not take requests from this address, or this token may not ask for it.",
    "404": "There is no such item, row or page.",
    "408": "The body did not arrive in time.",
    "413": "The body is too long.",
    "415": "The body does not say that it is JSON.",
    "421": "The request names a host that this server is not.",
    "422": "A field is missing, unknown or of another type; two fields do not go together.",
    "429": "Too much is under way; come again later.",
    "500": "A fault of the server; its log says more.",
    "501": "The server was started without what this needs, such as a judge, an encoder or a ranker.",
    "503": "The index, or what the server relies on, cannot be reached at present.",
}


def add_description(app: FastAPI) -> None:
    """Give the application's description the statuses of its errors. To be called behind its routes."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            with_errors(plain())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def with_errors(schema: dict[str, Any]) -> None:
    """Add STATUSES to every operation; what the framework says of 422 is not what is answered here."""
    schema.setdefault("components", {}).setdefault("schemas", {})[ERROR] = SHAPE
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{ERROR}"}}}
    for operations in schema["paths"].values():
        for operation in operations.values():
            told = {status: {"description": text, "content": content} for status, text in STATUSES.items()}
            operation["responses"] = {**operation["responses"], **told}


def allowed_methods(request: Request) -> set[str]:
    """The methods that the routes of a request's path have; empty where it has no route but the files of the page."""
    found: set[str] = set()
    for route in request.app.routes:
        if getattr(route, "methods", None) and route.matches(request.scope)[0] != Match.NONE:
            found |= set(route.methods)
    return found


def refusal(status: int, request: Request) -> tuple[int, dict[str, str]]:
    """Status and headers of a refusal: a method that a path does not have is 405 with those that it has (RFC 9110,
    15.5.6), also where the files of the page have nothing by that name.
    """
    allowed = allowed_methods(request) if status in (404, 405) else set()
    if status == 404 and allowed and request.method not in allowed:
        status = 405
    return status, {"Allow": ", ".join(sorted(allowed or {"GET", "HEAD"}))} if status == 405 else {}
