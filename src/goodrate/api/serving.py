"""Serve an index over HTTP, with a web page."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goodrate.extras import require
from goodrate.serving.limits import KEEP as KEEP
from goodrate.serving.limits import Limits as Limits
from goodrate.serving.parts import Parts as Parts

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from goodrate.api.index import Index
    from goodrate.api.ranker import RankerChoice
    from goodrate.relevance.judge import CalibratedJudge
    from goodrate.relevance.verdict_store import VerdictStore
    from goodrate.serving.access import Access
    from goodrate.serving.live import LivePipeline
    from goodrate.serving.pipeline import SearchPipeline
    from goodrate.serving.text_encoder import TextEncoder
    from goodrate.serving.workbench.store import Workbench

WARM_UP = "warm up"  # the first query; nobody typed it
Noted = Callable[["Index", "CalibratedJudge"], "CalibratedJudge"]  # gives a judge its notes of an index


def serve(
    index: Index, host: str = "127.0.0.1", port: int = 8000, token_file: str | Path | None = None,
    insecure: bool = False, workbench: str | Path | None = None, clips: str | Path | None = None,
) -> None:  # fmt: skip
    """Answer HTTP requests until Ctrl-C or SIGTERM; requests under way are finished.

    /search, /judge, /explain, /v1/rerank and /healthz, the page at /. token_file: who may ask (serving.access).
    workbench: a folder for what people say of the search (docs/comparing.md). clips: the folder of the items' clips
    (docs/film.md). Raises ValueError when the address is taken, and for one that others reach without a token_file
    unless insecure.
    """
    require("serve", "goodrate serve")
    allowed, moving = access(host, Path(token_file) if token_file else None, insecure), clips_folder(clips)
    with listen(host, port) as listener:
        team = open_workbench(workbench)
        served = live(index)
        warm_up(index)
        run(served, listener, Parts(encoder=text_encoder(index), access=allowed, workbench=team, clips=moving))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ValueError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host"
        ) from error
    # asyncio sends answers at once (TCP_NODELAY) only on sockets that say they are TCP, which create_server's do not
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=made.detach())


def warm_up(index: Index) -> None:
    """Answer once, so that the first shopper does not wait for what is only set up on use. Nothing is stored."""
    index.pipeline.search_once(WARM_UP)
    index.store.facets.table()
    index.pipeline.judge_some(WARM_UP)


def live(
    index: Index, noted: Noted | None = None, files: Sequence[Path] = (), follow_items: bool = False
) -> LivePipeline:
    """The index's pipeline, made anew with the same models when its folder holds another index or other notes.

    noted: gives the judge its notes anew; None: it keeps them. files: what the notes are read from. follow_items: the
    notes are made of the items, so every change of the index makes them anew.
    """
    from goodrate.relevance.override_file import with_saved_overrides
    from goodrate.retrieval.search_words import WORD_FILES
    from goodrate.retrieval.store import Store
    from goodrate.serving.live import LivePipeline
    from goodrate.serving.workbench.overrides import override_file

    def reopen() -> SearchPipeline:
        store = Store.open(index.store.path)
        if (store.fingerprint, store.dimension) != (index.store.fingerprint, index.store.dimension):
            raise ValueError(f"{store.path} holds an index of another encoder; start goodrate serve anew")
        opened = index.but(store=store)
        if noted is not None and index.judge is not None:
            opened.judge = noted(opened, index.judge)
        if opened.judge is not None:
            opened.judge = with_saved_overrides(opened.judge)
        return opened.pipeline

    manifest = index.store.path / "store.json"
    version = (lambda: index.store.version) if follow_items else (lambda: None)
    read = [index.store.path / name for name in WORD_FILES] + ([index.rules_file] if index.rules_file else [])
    said = override_file(index.judge)
    served = LivePipeline(index.pipeline, reopen, [manifest, *read, *files, *([said] if said else [])], version)
    served.start()
    return served


def open_live(
    index: Path, model: str | None = None, encoder: str | None = None, verdicts: Path | None = None,
    facts: Path | None = None, contexts: str | None = None, context_encoder: str | None = None,
    rules: Path | None = None, judge_ms: float | None = None, keep_verdicts: int | None = KEEP,
    ranker: RankerChoice | None = None, online_weights: Path | None = None,
) -> tuple[Index, LivePipeline]:  # fmt: skip
    """An index folder with its encoder, a judge with its notes and stored verdicts, and what serves it.

    model: the judge's folder. verdicts: the file that keeps verdicts, verdicts.sqlite in the index unless said. facts,
    contexts, context_encoder: as Index.notes. rules: a file of ranking rules in place of the index's own. judge_ms: as
    Index.rerank. keep_verdicts: how many the file holds at most; None = all. ranker: orders results inside tiers.
    online_weights: a file of weights that clicks move (api.online_weights). Raises what Index.open, open_judge and
    RankerChoice.live do, and ValueError for a file of verdicts that is another.
    """
    from goodrate.api.index import Index
    from goodrate.api.judging import named_texts, require_facts
    from goodrate.api.notes import CONTEXTS, FACTS
    from goodrate.relevance.context import ITEMS
    from goodrate.serving.kept_verdicts import ServingVerdictStore

    require_facts(facts)
    if model is None:
        if contexts or context_encoder:
            raise ValueError(f"texts are given ({contexts or context_encoder}), and no judge to read them")
        if judge_ms is not None:
            raise ValueError(f"--judge-ms {judge_ms:g} is for a judge, and there is none: --model JUDGE")
        opened = with_weights(Index.open(index, encoder).but(rules=rules, ranker=ranker), online_weights)
        return opened, live(opened)
    texts = named_texts(model, contexts, context_encoder, index / CONTEXTS)
    opened = Index.open(index, encoder).but(rules=rules, judge_ms=judge_ms, ranker=ranker)
    opened = with_weights(opened, online_weights)
    store = ServingVerdictStore(verdicts_file(index, verdicts), keep_verdicts)
    reranked, noted = rerank_by(opened, model, store, facts, texts, context_encoder)
    files = [facts or index / FACTS, *([] if texts == ITEMS else [Path(texts or index / CONTEXTS)])]
    return reranked, live(reranked, noted, files, follow_items=texts == ITEMS)


def with_weights(index: Index, file: Path | None) -> Index:
    """The index with weights that clicks move; None: as it is."""
    from goodrate.api.online_weights import with_online_weights

    return index if file is None else with_online_weights(index, file)


def with_judge(
    opened: Index, model: str, verdicts: Path | None = None, depth: int | None = None, judge_ms: float | None = None,
    must_keep: bool = False,
) -> Index:  # fmt: skip
    """An open index with the judge of a folder, which is told what the index knows and reads and writes the verdicts
    of its searches, as `open_live` serves it. must_keep: a verdict that cannot be stored is an error, where a search
    is else answered all the same. Raises what open_judge does.
    """
    from goodrate.api.judging import named_texts
    from goodrate.api.notes import CONTEXTS
    from goodrate.relevance.verdict_store import VerdictStore
    from goodrate.serving.kept_verdicts import ServingVerdictStore

    folder = opened.store.path
    texts = named_texts(model, None, None, folder / CONTEXTS)
    path = verdicts_file(folder, verdicts)
    store = VerdictStore(path) if must_keep else ServingVerdictStore(path, keep=None)
    return rerank_by(opened.but(depth=depth or opened.depth, judge_ms=judge_ms), model, store, texts=texts)[0]


def verdicts_file(index: Path, named: Path | None = None) -> Path:
    """Where the verdicts of an index's searches are kept, unless another file is named.

    Raises ValueError for an index on S3, where no SQLite file can be written.
    """
    from goodrate.retrieval.remote import address

    if named is None and address(index) is not None:
        raise ValueError(f"{address(index)}: verdicts are not kept on S3; name a file for them: --verdicts FILE")
    return named or index / "verdicts.sqlite"


def rerank_by(
    opened: Index, model: str, store: VerdictStore, facts: Path | None = None, texts: str | None = None,
    context_encoder: str | None = None,
) -> tuple[Index, Noted]:  # fmt: skip
    """The index with the judge of a folder, told what the index knows of queries; and what tells it so anew.

    texts: those that the judge reads (named_texts). Raises what open_judge does.
    """
    from goodrate.api.judging import open_judge

    def noted(of: Index, judge: CalibratedJudge) -> CalibratedJudge:
        return judge.with_notes(of.notes(judge, facts, texts, context_encoder))

    judge = open_judge(model).with_notes(None, store)
    return opened.rerank(noted(opened, judge), depth=opened.depth, judge_ms=opened.judge_ms), noted


def access(
    host: str, token_file: Path | None = None, insecure: bool = False, hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
) -> Access:  # fmt: skip
    """Who may ask a server on this address for what. hosts: names by which it may be asked. origins: other sites whose
    pages may ask. Raises ValueError for an address that others reach without tokens, unless insecure.
    """
    from goodrate.serving.access import access_for

    return access_for(host, token_file, insecure, hosts, origins)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    from goodrate.serving.access import is_loopback

    return is_loopback(host)


def observed(log_format: str = "text", otel: bool = False) -> Any:
    """Begin to write the log as JSON lines, and to trace; the tracer provider, None without one."""
    if log_format == "json":
        from goodrate.serving.request_log import log_as_json

        log_as_json()
    if not otel:
        return None
    require("otel", "--otel")
    from goodrate.serving.tracing import otlp_provider

    return otlp_provider()


def text_encoder(index: Index) -> TextEncoder | None:
    """The encoder of an index, as /v1/embeddings gives its vectors; None for an index of words alone."""
    from goodrate.serving.text_encoder import TextEncoder

    if index.encoder is None:
        return None
    return TextEncoder(Path(index.store.manifest.encoder or "encoder").name, index.encoder)


def follow_clicks(pipeline: LivePipeline, events: Path) -> None:
    """Learn weights from a growing file of sessions while the process runs."""
    from goodrate.serving.click_file import follow_events

    follow_events(pipeline.current, events)


def clips_folder(folder: str | Path | None) -> Path | None:
    """The folder of clips, as it is. FileNotFoundError where there is none of that name."""
    if folder is not None and not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder} is no folder; --clips names the one that the catalogue's clips lie in")
    return None if folder is None else Path(folder)


def open_workbench(folder: str | Path | None) -> Workbench | None:
    """The workbench of a folder, which is made where there is none; None for no folder. Raises as Workbench does."""
    from goodrate.serving.workbench.store import Workbench

    return None if folder is None else Workbench(folder)


def run(pipeline: LivePipeline, listener: socket.socket, parts: Parts | None = None) -> None:
    """Serve on a socket that listens already."""
    require("serve", "goodrate serve")
    pipeline.start()
    try:
        server(pipeline, parts).run(sockets=[listener])
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("the server has stopped") from stop
    finally:
        pipeline.stop()


def run_comparisons(folder: str | Path, listener: socket.socket, parts: Parts | None = None) -> None:
    """Serve the page /compare/ of a workbench, without an index. Raises FileNotFoundError where there is none."""
    from goodrate.serving.http import create_compare_app
    from goodrate.serving.workbench.store import existing_workbench

    require("serve", "goodrate compare serve")
    with existing_workbench(folder) as workbench:
        try:
            _server_of(create_compare_app(workbench, parts), (parts or Parts()).limits).run(sockets=[listener])
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt("the server has stopped; every vote is kept") from stop


def server(pipeline: LivePipeline | SearchPipeline, parts: Parts | None = None) -> uvicorn.Server:
    """What answers, not running yet."""
    from goodrate.serving.http import create_app

    parts = parts or Parts()
    return _server_of(create_app(pipeline, parts), parts.limits)


def _server_of(app: FastAPI, limits: Limits) -> uvicorn.Server:
    import uvicorn

    from goodrate.serving.protocol import header_deadline
    from goodrate.serving.request_log import is_json

    config = uvicorn.Config(
        app, http=header_deadline(limits.header_seconds), ws="none",
        log_level="warning", log_config=None if is_json() else uvicorn.config.LOGGING_CONFIG,
        timeout_graceful_shutdown=limits.stop_seconds,
    )  # fmt: skip
    return uvicorn.Server(config)
