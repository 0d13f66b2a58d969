"""What an application is made of beside its pipeline: one record, so that a part that comes changes one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from goodrate.serving.limits import Limits

if TYPE_CHECKING:
    from goodrate.catalog.judgements import Judgements
    from goodrate.serving.access import Access
    from goodrate.serving.interleaving import Interleaving
    from goodrate.serving.pipeline import SearchPipeline
    from goodrate.serving.text_encoder import TextEncoder
    from goodrate.serving.workbench.store import Workbench

Current: TypeAlias = "Callable[[], SearchPipeline]"  # the pipeline of now; raises IndexUnavailable while there is none


@dataclass(frozen=True)
class Parts:
    """The optional parts of an application (`http.create_app`); each has its own module, and None leaves it out.

    encoder: gives vectors of texts. access: who may ask for what; None: whoever reaches the application may.
    tracer_provider: OpenTelemetry's. workbench: where what people say of the search is kept. interleaving: a second
    system that answers searches together with the pipeline. clips: the folder that the items' clips lie in. labels:
    on which overrides of a judge of entities are previewed.
    """

    limits: Limits = field(default_factory=Limits)
    encoder: TextEncoder | None = None
    access: Access | None = None
    tracer_provider: Any = None
    workbench: Workbench | None = None
    interleaving: Interleaving | None = None
    clips: Path | None = None
    labels: Judgements | None = None
