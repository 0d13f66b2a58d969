"""The HTTP API: /search, /judge, /explain, /healthz, /v1/rerank, and the page at /. One app serves one index."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from goodrate.relevance.pairs import Item, text_item
from goodrate.serving.answers import explain_json, rerank_json, search_json
from goodrate.serving.bodies import BodyLimit, StrictRoute, error_answer
from goodrate.serving.clicks import add_clicks
from goodrate.serving.limits import Limits
from goodrate.serving.live import LivePipeline
from goodrate.serving.pictures import PicturePolicy, with_pictures
from goodrate.serving.pipeline import SearchPipeline
from goodrate.serving.records import IndexUnavailable, NoJudge, UnknownItem
from goodrate.serving.requests import JudgeBody, PairBody, RerankBody, SearchBody, SuggestBody

PAGE = Path(__file__).parent / "page"
log = logging.getLogger(__name__)
Current = Callable[[], SearchPipeline]
PAGE_PATHS = ("/", "/index.html")
# The page loads nothing from elsewhere but pictures of the catalogue (pictures.py) and runs no inline script; the
# browser is told to hold it to that.
SAFETY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # a browser asks whether its copy is the current one, so it never mixes two versions
}


def create_app(pipeline: SearchPipeline | LivePipeline, limits: Limits | None = None) -> FastAPI:
    """The application over a loaded pipeline, or over one that is made anew when its index changes.

    Endpoints are plain functions, so that the framework runs them in its thread pool; the pipeline locks the models.
    /docs is off because it would load scripts from the internet; /openapi.json describes the API.
    """
    app = FastAPI(title="goodrate", version=version("goodrate"), docs_url=None, redoc_url=None)
    app.router.route_class = StrictRoute
    current = pipeline.current if isinstance(pipeline, LivePipeline) else lambda: pipeline
    _add_errors(app)
    _add_search(app, current)
    _add_judging(app, current)
    _add_health(app, current)
    add_clicks(app, current)

    _add_safety(app, PicturePolicy(lambda: current().store))
    app.add_middleware(BodyLimit, limits=limits or Limits())  # the last is the outermost
    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    return app


def _add_safety(app: FastAPI, pictures: PicturePolicy) -> None:
    @app.middleware("http")
    async def _safety(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers.update(SAFETY_HEADERS)
        if request.url.path in PAGE_PATHS:  # by path: an answer "not modified" renews the headers that a browser keeps
            sources = await run_in_threadpool(pictures.sources)
            policy = SAFETY_HEADERS["Content-Security-Policy"]
            response.headers["Content-Security-Policy"] = with_pictures(policy, sources)
        return response


def _add_search(app: FastAPI, current: Current) -> None:
    def answer(body: SearchBody) -> dict[str, Any]:
        pipeline = current()
        return search_json(pipeline.search(body.request()), pipeline.judge.scale if pipeline.judge else None)

    @app.get("/search")
    def search(body: Annotated[SearchBody, Query()]) -> dict[str, Any]:
        """Search; the same fields as the POST body, in the address."""
        return answer(body)

    @app.get("/suggest")
    def suggest(body: Annotated[SuggestBody, Query()]) -> dict[str, Any]:
        """What somebody who has typed so far may want to type."""
        found = current().suggest(body.query, body.k)
        shown = [{"text": one.text, "kind": one.kind, "results": one.results} for one in found]
        return {"query": body.query, "suggestions": shown}

    @app.post("/search")
    def search_post(body: SearchBody) -> dict[str, Any]:
        """Search: results in tiers, with label probabilities and each retrieval channel's part."""
        return answer(body)


def _add_judging(app: FastAPI, current: Current) -> None:
    def item_of(pipeline: SearchPipeline, pair: PairBody) -> Item:
        return text_item(pair.item_text) if pair.item_text is not None else pipeline.item(str(pair.item_id))

    @app.post("/judge")
    def judge(body: JudgeBody) -> dict[str, Any]:
        """Verdicts for pairs of a query and an item, in the order of the pairs."""
        pipeline = current()
        scale = pipeline.need_judge().scale
        by_query: dict[str, list[int]] = {}
        for position, pair in enumerate(body.pairs):
            by_query.setdefault(pair.query, []).append(position)
        answers: dict[int, Any] = {}
        for query, positions in by_query.items():
            verdicts = pipeline.judge_items(query, [item_of(pipeline, body.pairs[position]) for position in positions])
            answers |= zip(positions, [verdict.as_dict(scale) for verdict in verdicts], strict=True)
        return {"labels": list(scale.labels), "verdicts": [answers[position] for position in range(len(body.pairs))]}

    @app.get("/explain")
    def explain(pair: Annotated[PairBody, Query()]) -> dict[str, Any]:
        """A verdict with its reason, decoded on demand; query and item_id (or item_text) in the address."""
        return explain_post(pair)

    @app.post("/explain")
    def explain_post(pair: PairBody) -> dict[str, Any]:
        """A verdict with its reason, decoded on demand."""
        pipeline = current()
        judge = pipeline.need_judge()
        return explain_json(pair.query, pipeline.explain(pair.query, item_of(pipeline, pair)), judge.scale)

    @app.post("/v1/rerank")
    def rerank(body: RerankBody) -> dict[str, Any]:
        """Order documents by relevance, in the shape of Cohere's and Jina's rerank."""
        pipeline = current()
        name = pipeline.need_judge().name
        verdicts = pipeline.judge_items(body.query, [text_item(text) for text in body.texts()])
        return rerank_json(body.model or name, body.documents, verdicts, body.top_n, body.return_documents)


def _add_health(app: FastAPI, current: Current) -> None:
    @app.get("/healthz")
    def healthz() -> dict[str, Any]:
        """Whether the index answers, what is loaded, and how many verdicts could not be stored."""
        pipeline = current()
        judge = pipeline.judge
        return {
            "status": "ok",
            "version": app.version,
            "items": pipeline.count(),
            "modes": list(pipeline.modes),
            "judge": judge.name if judge else None,
            "warnings": list(judge.warnings) if judge else [],
            "labels": list(judge.scale.labels) if judge else [],
            "verdicts_not_stored": getattr(judge.store, "not_stored", 0) if judge else 0,
        }


def _add_errors(app: FastAPI) -> None:
    """Every error has one shape: {"message": what is wrong, "errors": [{"field", "problem"}]}."""

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

    @app.exception_handler(NoJudge)
    def _no_judge(_: Request, error: NoJudge) -> JSONResponse:
        return error_answer(501, str(error))

    @app.exception_handler(HTTPException)
    def _http(_: Request, error: HTTPException) -> JSONResponse:
        return error_answer(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    def _unforeseen(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return error_answer(500, "internal error; the server's log says more")


def _problem(detail: Mapping[str, Any]) -> dict[str, str]:
    """One validation error: "pairs.0.query" and what is wrong with it."""
    place = ".".join(str(part) for part in detail["loc"][1:]) or "request"  # loc[0] is body or query: where it came
    return {"field": place, "problem": str(detail["msg"]).removeprefix("Value error, ")}
