"""What only some features need: the packages of each extra, and one line to a user who lacks them."""

from __future__ import annotations

import importlib

# extra -> the packages whose import it allows; pyproject.toml has their bounds
EXTRAS = {
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
    "plots": ("matplotlib",),
    "teacher": ("httpx",),
    "tensorboard": ("tensorboard",),
    "xlsx": ("fastexcel",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino",),
    "numba": ("numba",),
    "candidates": ("httpx", "psycopg"),
    "otel": ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"),
    "ray": ("ray",),
    "video": ("diffusers",),
    "captions": ("pycocoevalcap",),
}
APART = ("captions",)  # not among those of the extra `all`: they serve measuring alone


class MissingExtra(ImportError):
    """A feature was asked for whose packages are not installed; the message has the command that installs them."""


def require(extra: str, feature: str) -> None:
    """Import the packages of an extra. Raises MissingExtra, which names the feature, when one is not installed.

    extra: a key of EXTRAS. feature: what was asked for, as the user knows it.
    """
    for package in EXTRAS[extra]:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            # installed, and broken inside: the true cause says more
            if error.name is None or not f"{package}.".startswith(f"{error.name}."):
                raise
            raise MissingExtra(f'{feature} needs {package}: pip install "goodrate[{extra}]"') from error
