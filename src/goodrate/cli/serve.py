"""goodrate serve: search over HTTP, with a web page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.markup import escape

from goodrate.api.serving import KEEP
from goodrate.cli.options import (
    AcrossTiers,
    ContextEncoder,
    Contexts,
    Encoder,
    Facts,
    Judge,
    JudgeMs,
    Ranker,
    Rules,
    Verdicts,
    Workbench,
)
from goodrate.cli.serve_options import (
    AllowHost,
    Candidates,
    ClickEvents,
    Clips,
    Cors,
    Host,
    Insecure,
    Interleave,
    KeepVerdicts,
    LabelsOfPairs,
    Log,
    LogFormat,
    MaxBody,
    OnlineWeights,
    Otel,
    Port,
    ServedIndex,
    TokenFile,
)
from goodrate.cli.terminal import console, report_warnings, verb_app
from goodrate.extras import require

app = verb_app()
log = logging.getLogger("goodrate.serve")

HELP = """Serve search over HTTP with a web page.

The page is at /, the API at /search, /judge, /explain, /rerank, /score, /v1/embeddings, /metrics and /healthz;
/openapi.json describes it.

Examples:

  goodrate serve shop-index

  goodrate serve shop-index --model runs/judge/judge --port 9000

  goodrate serve shop-index --model runs/judge/judge --judge-ms 200

  goodrate serve shop-index --model runs/judge/judge --ranker runs/clicks/ranker

  goodrate serve shop-index --model runs/judge/judge --workbench team

  goodrate serve shop-index --model runs/entities/judge --workbench team --judgements labels.csv

  goodrate serve shop-index --interleave shop-index,mode=lexical,name=words --workbench team

  goodrate serve shop-index --clips clips      # the page plays what the column clip of the catalogue names

  goodrate serve shop-index --host 0.0.0.0 --token-file tokens.txt --log-format json

  goodrate serve shop-index --online-weights weights.toml --click-events clicks.jsonl

  goodrate serve --candidates opensearch://localhost:9200/products --model runs/judge/judge
"""


@app.command(help=HELP)
def serve(
    index: ServedIndex = None,
    model: Judge = None,
    judge_ms: JudgeMs = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    encoder: Encoder = None,
    verdicts: Verdicts = None,
    keep_verdicts: KeepVerdicts = KEEP,
    facts: Facts = None,
    contexts: Contexts = None,
    context_encoder: ContextEncoder = None,
    rules: Rules = None,
    ranker: Ranker = None,
    across_tiers: AcrossTiers = False,
    online_weights: OnlineWeights = None,
    click_events: ClickEvents = None,
    candidates: Candidates = None,
    max_body: MaxBody = 8.0,
    max_requests: Annotated[int, typer.Option(min=1, help="Answered at once; more get 429, ask again later.")] = 128,
    token_file: TokenFile = None,
    insecure: Insecure = False,
    allow_host: AllowHost = None,
    cors: Cors = None,
    log_format: Log = LogFormat.text,
    otel: Otel = False,
    workbench: Workbench = None,
    interleave: Interleave = None,
    clips: Clips = None,
    judgements: LabelsOfPairs = None,
) -> None:
    """See HELP."""
    from goodrate.api.interleaving import open_interleaving
    from goodrate.api.overruling import preview_labels
    from goodrate.api.ranker import ranker_choice
    from goodrate.api.serving import Limits, Parts, access, clips_folder, listen, observed, open_workbench, run

    require("serve", "goodrate serve")
    chosen, moving = ranker_choice(ranker, across_tiers), clips_folder(clips)
    allowed, tracer = access(host, token_file, insecure, allow_host or (), cors or ()), observed(log_format, otel)
    of_index = {"--facts": facts, "--contexts": contexts, "--context-encoder": context_encoder, "--rules": rules}
    of_index |= {"--ranker": ranker, "--online-weights": online_weights, "--click-events": click_events}
    with listen(host, port) as listener:  # before the models are loaded: a taken port is said at once
        team, labels = open_workbench(workbench), preview_labels(judgements, model, workbench)
        with console.status("loading"):
            interleaving = open_interleaving(str(index or candidates), interleave, team)
            if candidates is not None:
                served = _over_engine(candidates, index, model, encoder, verdicts, judge_ms, keep_verdicts, of_index)
            else:
                served = _over_index(
                    index, click_events, model=model, encoder=encoder, verdicts=verdicts, facts=facts,
                    contexts=contexts, context_encoder=context_encoder, rules=rules, judge_ms=judge_ms,
                    keep_verdicts=keep_verdicts, ranker=chosen, online_weights=online_weights,
                )  # fmt: skip
        said = announcement(served.items, served.judge, host, listener.getsockname()[1], token_file is None)
        _say([*said, *served.notices], served.judge, log_format)
        limits = Limits(body=int(max_body * 1_000_000), requests=max_requests)
        parts = Parts(limits, served.encoder, allowed, tracer, team, interleaving, moving, labels)
        run(served.pipeline, listener, parts)


class Served(NamedTuple):
    """What is served. notices: lines to say before it is."""

    pipeline: Any
    items: int
    judge: Any
    encoder: Any
    notices: tuple[str, ...] = ()


def _over_index(index: Path | None, click_events: Path | None, **opening: Any) -> Served:
    """An index, with its judge; opening: as api.serving.open_live."""
    from goodrate.api.ranking import unknown_ids_warning
    from goodrate.api.serving import follow_clicks, open_live, text_encoder, warm_up

    if index is None:
        raise ValueError("expected INDEX, the folder that goodrate index made, or --candidates URL")
    if click_events and opening["online_weights"] is None:
        raise ValueError(f"--click-events {click_events} is for weights that follow clicks: --online-weights FILE")
    opened, pipeline = open_live(index, **opening)
    warm_up(opened)
    if click_events:
        follow_clicks(pipeline, click_events)
    told = [unknown_ids_warning(opened), opened.ranker.notice() if opened.ranker else None]
    return Served(pipeline, len(opened), opened.judge, text_encoder(opened), tuple(line for line in told if line))


def _over_engine(
    url: str, index: Path | None, model: str | None, encoder: str | None, verdicts: Path | None,
    judge_ms: float | None, keep_verdicts: int, of_index: Mapping[str, Any],
) -> Served:  # fmt: skip
    """A search engine, with a judge. of_index: options that are for an index alone."""
    from goodrate.api.candidates import open_candidates

    given = [str(index)] * (index is not None) + [name for name, value in of_index.items() if value is not None]
    if given:
        raise ValueError(f"--candidates takes the place of INDEX and what lies in it; leave out {given[0]}")
    pipeline, loaded = open_candidates(url, model, encoder, verdicts, judge_ms, keep_verdicts)
    lost = "no verdict is kept, and each search asks the judge anew: --verdicts FILE keeps them"
    return Served(pipeline, pipeline.count(), pipeline.judge, loaded, (lost,) if model and verdicts is None else ())


def _say(lines: list[str], judge: Any, log_format: LogFormat) -> None:
    """Say what is served and what has to be known of the judge, in the form of the log."""
    if log_format == LogFormat.json:
        for line in lines:
            log.info(line)
        for warning in judge.warnings if judge else ():
            log.warning("%s: %s", judge.name, warning)
        return
    for line in lines:
        console.print(escape(line), highlight=False)
    if judge:
        report_warnings(judge)


def announcement(items: int, judge: Any, host: str, port: int, anybody: bool = True) -> list[str]:
    """What is served and where, and a warning when others can reach it. anybody: no tokens are asked for."""
    from goodrate.api.serving import is_loopback

    address = f"[{host}]" if ":" in host else host
    said = f"judge {judge.name}" if judge else "no judge"
    lines = [f"{items:,} items, {said}, at http://{address}:{port} (Ctrl-C stops)"]
    if not is_loopback(host):
        lines.append(
            "others can reach this address and goodrate asks nobody who they are: put a proxy in front"
            if anybody
            else "others can reach this address; what is sent is not encrypted: put a proxy with TLS in front"
        )
    return lines


command = typer.main.get_command(app)
