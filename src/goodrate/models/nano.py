"""The base model that ships with the package: a small causal LM of the shop's language, never trained on judgements."""

from __future__ import annotations

import hashlib
from pathlib import Path

from goodrate.strict_json import read_object

NANO = Path(__file__).parent / "nano_weights"


def nano_folder(folder: Path = NANO) -> Path:
    """The model folder, its weights checked against the sha256 in nano.json.

    Raises FileNotFoundError when the package lacks it, ValueError when the weights are not those that were packed.
    """
    card = folder / "nano.json"
    if not card.is_file():
        raise FileNotFoundError(f"{folder} holds no base model; make one with: python -m goodrate.recipes.nano")
    wanted = read_object(card)["sha256"]
    with (folder / "model.safetensors").open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != wanted:
        raise ValueError(f"{folder / 'model.safetensors'} has sha256 {digest[:12]}, expected {wanted[:12]}")
    return folder
