"""Attributes of items by a trained vision-language model: each value's probability against the others and "unknown"."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from goodrate.catalog.items import Catalog
from goodrate.catalog.normal_form import normal_text
from goodrate.examples.product_items import listing_line
from goodrate.examples.product_tasks import UNKNOWN, answer_text, extraction_prompt
from goodrate.models.vision.token_cache import encoded
from goodrate.models.vision_language.answering import answer_logprobs, write
from goodrate.models.vision_language.folder import CARD, WEIGHTS, load
from goodrate.models.vision_language.model import VisionLanguageModel
from goodrate.recipes.product_answers import log_softmax
from goodrate.strict_json import parse
from goodrate.understanding.attribute_guess import AttributeGuess, Picture

ITEMS = 32  # whose pictures are encoded, and whose questions are asked, side by side


def open_describer(folder: str | Path, language_model: str | None = None) -> ProductDescriber:
    """The describer of OUT/model of `goodrate train product_vision_language`. language_model: where the LM lies if it
    has moved. Raises as models.vision_language.folder.load."""
    folder = Path(folder)
    model, encoder, card = load(folder, language_model)
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes() + (folder / CARD).read_bytes()).hexdigest()[:16]
    return ProductDescriber(model, encoder, card, digest)


class ProductDescriber:
    """A Describer (understanding.attribute_guess): one question for each item and attribute."""

    def __init__(self, model: VisionLanguageModel, encoder: Any, card: Mapping[str, Any], fingerprint: str) -> None:
        """card: with attributes (name -> values that it has learned), wording and temperature, as the recipe has it."""
        self.model, self.encoder, self.card, self.fingerprint = model, encoder, card, fingerprint
        self.name = f"vision-language {Path(str(card['language_model'])).name}"

    @property
    def attributes(self) -> Mapping[str, Sequence[str]]:
        """The values of each attribute that it has learned."""
        return dict(self.card["attributes"])

    def describe(
        self, items: Catalog, images: Sequence[Picture], attributes: Mapping[str, Sequence[str]]
    ) -> list[list[AttributeGuess]]:
        """Guesses for each item; see Describer. What is most probably unknown is left out.

        confidence: softmax over the values and "unknown" of their log probabilities over the temperature that was
        fitted on dev products; of an open value the product of its tokens' probabilities. An item's own value of an
        attribute is not shown to the model when it is asked for that. Raises ValueError naming an item whose picture
        cannot be read.
        """
        if len(images) != len(items):
            raise ValueError(f"{len(items)} items and {len(images)} images; expected one image, or None, for each")
        rows = items.to_rows()
        guesses: list[list[AttributeGuess]] = []
        for start in range(0, len(rows), ITEMS):
            part = rows[start : start + ITEMS]
            features = self._features([row["id"] for row in part], images[start : start + ITEMS])
            guesses += self._part([self._text(row) for row in part], features, attributes)
        return guesses

    def _features(self, ids: Sequence[str], images: Sequence[Picture]) -> torch.Tensor:
        """(N, count, dimension), zeros without a picture."""
        found = torch.zeros(len(ids), self.model.count, self.model.dimension)
        given = [(n, image) for n, image in enumerate(images) if image is not None]
        if given:
            tokens = encoded(self.encoder, [image for _, image in given], [f"of item {ids[n]}" for n, _ in given])
            found[[n for n, _ in given]] = torch.from_numpy(tokens.astype(np.float32))
        return found

    def _text(self, row: Mapping[str, Any]) -> dict[str, str]:
        """The title and those fields that the model was trained to read."""
        own = parse(row["attributes"], "attributes")
        known = {n: normal_text(own[n]) for n in self.card["attributes"] if isinstance(own.get(n), str)}
        return {"title": row["title"], **known}

    def _part(
        self, texts: Sequence[Mapping[str, str]], features: torch.Tensor, attributes: Mapping[str, Sequence[str]]
    ) -> list[list[AttributeGuess]]:
        """Guesses for a few items: all closed questions side by side, then the open ones."""
        guesses: list[list[AttributeGuess]] = [[] for _ in texts]
        asked = [(n, name) for n in range(len(texts)) for name, values in attributes.items() if values]
        wording = self.card["wording"]
        if asked:
            answers = {name: [*values, UNKNOWN] for name, values in attributes.items()}
            ids = {name: [self.model.answer_ids(answer_text(v, wording)) for v in own] for name, own in answers.items()}
            prompts = [self._prompt(texts[n], name) for n, name in asked]
            rows = features[[n for n, _ in asked]]
            scores = answer_logprobs(self.model, prompts, rows, [ids[name] for _, name in asked])
            for (n, name), values in zip(asked, scores, strict=True):
                chances = np.exp(log_softmax(values.numpy() / float(self.card["temperature"])))
                best = int(chances.argmax())
                if answers[name][best] != UNKNOWN:
                    guesses[n].append(AttributeGuess(name, answers[name][best], min(1.0, float(chances[best]))))
        for name in (name for name, values in attributes.items() if not values):
            self._open(name, texts, features, guesses)
        return guesses

    def _open(
        self, name: str, texts: Sequence[Mapping[str, str]], features: torch.Tensor, guesses: list[list[AttributeGuess]]
    ) -> None:
        """Let the model write the values of one attribute, and add them to the guesses."""
        prompts = [self._prompt(text, name) for text in texts]
        nothing = answer_text(UNKNOWN, self.card["wording"]).strip()
        said = write(self.model, prompts, features, max_new_tokens=12)
        chances = answer_logprobs(self.model, prompts, features, [[self.model.answer_ids(f" {v}")] for v in said])
        for own, value, chance in zip(guesses, said, chances, strict=True):
            if value and normal_text(value) != nothing:
                own.append(AttributeGuess(name, value, min(1.0, float(chance.exp()))))

    def _prompt(self, text: Mapping[str, str], name: str) -> list[int]:
        line = listing_line({field: words for field, words in text.items() if field != name})
        return self.model.prompt_ids(extraction_prompt(line, name, self.card["wording"]))
