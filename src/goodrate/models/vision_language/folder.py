"""A trained VisionLanguageModel as a small folder: adapters and resampler alone, and which LM and encoder they fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goodrate.models.adapter import LoraSettings
from goodrate.models.causal_lm import CausalLM, existing_name
from goodrate.models.pretrained import folder_hash, readable
from goodrate.models.vision.encoder import open_vision
from goodrate.models.vision_language.adapters import AdapterSettings
from goodrate.models.vision_language.model import VisionLanguageModel
from goodrate.strict_json import dumps, read_object

CARD, WEIGHTS, VISION, LORA = "vision_language.json", "adapters.safetensors", "vision", "lora"
FORMAT = 1


def save(
    model: VisionLanguageModel, encoder: Any, folder: Path, *, language_model: str, vision: str, more: Mapping[str, Any]
) -> Path:
    """Write the folder, which must be there. language_model, vision: by what they are opened again; vision "" = it was
    trained here, and lies inside. more: what else the card is to hold."""
    from safetensors.torch import save_file

    parts = {"resampler": model.resampler, "adapters": model.adapters}
    weights = {f"{part}.{name}": w for part, own in parts.items() for name, w in own.state_dict().items()}
    save_file({name: w.detach().cpu().contiguous() for name, w in weights.items()}, folder / WEIGHTS)
    if model.lora is not None:
        model.lora.save(folder / LORA)
    if not vision:
        (folder / VISION).mkdir(exist_ok=True)
        encoder.save(folder / VISION)
    card = {
        "format": FORMAT, "adapters": model.settings.model_dump(),
        "lora": model.lora_settings.model_dump() if model.lora_settings else None,
        "language_model": language_model, "language_model_sha256": lm_fingerprint(language_model),
        "vision": vision, "vision_fingerprint": encoder.fingerprint, "dimension": model.dimension, "count": model.count,
        **more,
    }  # fmt: skip
    (folder / CARD).write_text(dumps(card, indent=2) + "\n", encoding="utf-8")
    return folder


def lm_fingerprint(name: str) -> str:
    """16 hex over the LM's files; "" for a hub id, whose files are not at hand."""
    path = Path(existing_name(name))
    return folder_hash(path) if path.is_dir() else ""


def load(folder: str | Path, language_model: str | None = None) -> tuple[VisionLanguageModel, Any, dict[str, Any]]:
    """The model, its encoder and the card. language_model: where the LM lies if it has moved.

    Raises FileNotFoundError when the folder is none of these, ValueError when the LM or the encoder is another one than
    the adapters were trained on, or the weights are not whole.
    """
    folder = Path(folder)
    if not (folder / CARD).is_file():
        raise FileNotFoundError(
            f"{folder}: no {CARD} there; expected OUT/model of `goodrate train product_vision_language`"
        )
    card = read_object(folder / CARD)
    if card.get("format") != FORMAT:
        raise ValueError(f"{folder / CARD}: format {card.get('format')!r}, this version reads {FORMAT}; train it again")
    name = language_model or str(card["language_model"])
    if (found := lm_fingerprint(name)) != card["language_model_sha256"]:
        raise ValueError(
            f"{folder}: its adapters fit {card['language_model']} as it was then; {name} has other files ({found})"
        )
    encoder = open_vision(str(card["vision"]) or folder / VISION)
    if encoder.fingerprint != card["vision_fingerprint"]:
        raise ValueError(
            f"{folder}: its adapters fit the encoder {card['vision_fingerprint']}, found {encoder.fingerprint}"
        )
    lm = CausalLM.load(name)
    model = VisionLanguageModel(
        lm, AdapterSettings.model_validate(card["adapters"]), int(card["dimension"]), int(card["count"]),
        lora=LoraSettings.model_validate(card["lora"]) if card["lora"] else None,
    )  # fmt: skip
    read_weights(model, folder)
    return model.eval(), encoder.to(lm.device), card


def read_weights(model: VisionLanguageModel, folder: Path) -> None:
    """Put the folder's weights into a model of the same form. Raises ValueError when they are not whole or others."""
    from safetensors.torch import load_file

    with readable(folder):
        held = load_file(folder / WEIGHTS)
        for part in ("resampler", "adapters"):
            own = {name.partition(".")[2]: w for name, w in held.items() if name.startswith(f"{part}.")}
            getattr(model, part).load_state_dict(own)
        if model.lora is not None:
            from peft import set_peft_model_state_dict

            state = load_file(folder / LORA / "adapter_model.safetensors")
            set_peft_model_state_dict(model.lora._peft, state)
