"""A text encoder's network in a file of another runtime: ONNX Runtime or OpenVINO, with the torch network's states.

Tokenizer, pooling and prompts stay where they are (models.encoder, models.cross_encoder): the file holds the network
alone, token ids in, token states out.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from goodrate.extras import require
from goodrate.strict_json import dumps, read_object

EXPORT_FILE = "goodrate_export.json"
FILES = {"onnx": "model.onnx", "openvino": "model.xml"}
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
Run = Callable[[dict[str, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class ExportCard:
    """What lies in an exported folder. runtime: a key of FILES. int8: whether weights are bytes. inputs: what the file
    takes. sha256: of the file. source: fingerprint of the torch encoder. facts: hash of what decides vectors beside the
    weights. same: whether the vectors are the source's, so that they may stand in one index.
    """

    runtime: str
    int8: bool
    inputs: tuple[str, ...]
    sha256: str
    source: str
    facts: str = ""
    same: bool = False

    def write(self, folder: Path) -> None:
        """Put it into a folder."""
        (folder / EXPORT_FILE).write_text(dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ExportCard:
        """That of a folder. Raises ValueError naming the file."""
        path = folder / EXPORT_FILE
        try:
            found = read_object(path)
            card = cls(**{**found, "inputs": tuple(found["inputs"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"{path}: not what goodrate export writes ({error})") from error
        if card.runtime not in FILES:
            raise ValueError(f"{path}: runtime {card.runtime!r} is not one of {', '.join(FILES)}")
        return card


def is_exported(folder: Path) -> bool:
    """Whether a folder's network lies in the file of another runtime."""
    return (folder / EXPORT_FILE).is_file()


class ExportedNetwork(nn.Module):
    """Called as the Hugging Face network that it was made of. It cannot be trained and has no weights to show."""

    def __init__(self, folder: Path, config: Any) -> None:
        """Raises MissingExtra without the runtime, ValueError for a file that is not the card's."""
        super().__init__()
        self.card, self.config = ExportCard.read(folder), config
        self._path, self._runs = folder / FILES[self.card.runtime], {}  # type: ignore[var-annotated]
        require(self.card.runtime, f"an encoder exported to {self.card.runtime}")
        if _sha256(self._path) != self.card.sha256:
            raise ValueError(f"{self._path} is not the file that {folder / EXPORT_FILE} describes; export it anew")
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # says on which device it is
        digest = np.frombuffer(bytes.fromhex(self.card.sha256), dtype=np.uint8).copy()
        self.register_buffer("file", torch.from_numpy(digest))  # so that a fingerprint of weights is one of the file

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any:
        """last_hidden_state (N, T, D) float32 of token ids and masks (N, T)."""
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        given = dict(zip(INPUTS, (input_ids, attention_mask, types), strict=True))
        states = self._run({name: given[name].cpu().numpy() for name in self.card.inputs})
        return SimpleNamespace(last_hidden_state=torch.from_numpy(states).to(input_ids.device))

    def _run(self, given: dict[str, np.ndarray]) -> np.ndarray:
        """In as many threads as torch would take; each number of them has a session of its own."""
        threads = torch.get_num_threads()
        if threads not in self._runs:
            self._runs[threads] = OPENERS[self.card.runtime](self._path, threads)
        states: np.ndarray = self._runs[threads](given)
        return states

    def train(self, mode: bool = True) -> ExportedNetwork:
        """Refuse to be trained: ValueError."""
        if mode:
            raise ValueError(f"{self._path} cannot be trained; train the encoder that it was exported from")
        super().train(False)
        return self

    def stands_for(self, facts: str) -> str | None:
        """The fingerprint of the encoder whose vectors these are; None where they are their own."""
        return self.card.source if self.card.same and facts == self.card.facts else None


def _open_onnx(path: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others need the cores
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda given: session.run(None, given)[0]


def _open_openvino(path: Path, threads: int) -> Run:
    import openvino

    wanted = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(path, "CPU", wanted)
    return lambda given: np.array(compiled(given)[0])


OPENERS: Mapping[str, Callable[[Path, int], Run]] = {"onnx": _open_onnx, "openvino": _open_openvino}


class _States(nn.Module):
    """The network with a tensor as its only answer."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, *given: Tensor) -> Tensor:
        states: Tensor = self.network(**dict(zip(INPUTS, given, strict=False))).last_hidden_state
        return states


def write_network(network: Any, folder: Path, runtime: str, int8: bool, source: str) -> ExportCard:
    """Write a torch network as the file of a runtime, and its card. int8: weights as bytes (ONNX alone).

    Raises ValueError for another runtime, for int8 where the runtime has none, and for a network that cannot be traced.
    """
    if runtime not in FILES:
        raise ValueError(f"runtime {runtime!r} is not one of {', '.join(FILES)}")
    if int8 and runtime != "onnx":
        raise ValueError(f"--int8 is for onnx; {runtime} runs such files slower than fp32 ones")
    require(runtime, f"goodrate export --to {runtime}")
    require("onnx", "goodrate export")
    inputs = INPUTS if getattr(network.config, "type_vocab_size", 0) > 1 else INPUTS[:2]
    path = folder / FILES["onnx"]
    with _quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _trace(network, path, inputs)
        if int8:
            _to_bytes(path)
        if runtime == "openvino":
            import openvino

            openvino.save_model(openvino.convert_model(path), folder / FILES["openvino"], compress_to_fp16=False)
            path.unlink()
    card = ExportCard(runtime, int8, inputs, _sha256(folder / FILES[runtime]), source)
    card.write(folder)
    return card


def _trace(network: Any, path: Path, inputs: tuple[str, ...]) -> None:
    """The ONNX file of a network, for any number of texts of any length."""
    example = torch.ones(2, 7, dtype=torch.long, device="cpu")
    sizes = {0: torch.export.Dim("texts", min=1), 1: torch.export.Dim("tokens", min=1)}
    try:
        with torch.no_grad():
            torch.onnx.export(
                _States(network.to("cpu")).eval(), tuple(example.clone() for _ in inputs), str(path),
                input_names=list(inputs), output_names=["states"], dynamic_shapes=(tuple(sizes for _ in inputs),),
                dynamo=True, external_data=False, verbose=False,
            )  # fmt: skip
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise ValueError(f"a {type(network).__name__} cannot be written as ONNX: {reason}") from error


def _to_bytes(path: Path) -> None:
    """Weights as bytes, one scale for each row; activations are rounded to bytes as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_suffix(".whole")
    path.rename(whole)
    quantize_dynamic(str(whole), str(path), weight_type=QuantType.QInt8, per_channel=True)
    whole.unlink()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters print of their own steps."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(level)


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; the exported network is missing")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
