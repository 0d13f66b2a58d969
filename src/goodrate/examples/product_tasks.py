"""Questions about products, with their answers: five tasks in several wordings each (PUMGPT v1, arXiv 2308.09568v1).

caption: write the title. category: open, multiple choice, yes or no. extract: an attribute from text and picture, often
not stated. attribute: the same without the text. free: other questions. The paper names the tasks; the wordings, the
shares and the negatives are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from goodrate.examples.product_items import Product, ProductSet

Task = Literal["caption", "category", "extract", "attribute", "free"]
TASKS: tuple[Task, ...] = ("caption", "category", "extract", "attribute", "free")
UNKNOWN, YES, NO = "unknown", "yes", "no"
OPTIONS = 4  # of a multiple choice
HIDDEN = 0.5  # share of extractions whose field is left out of the text, where ProductSet.hides
Wording = Literal["english", "house"]

# {text} the listing, {attribute} its name, {name} a category or value, {options} a choice.
ENGLISH: dict[str, tuple[str, ...]] = {
    "caption": (
        "Write a title for the product in the image.\n", "What would a shop call this product?\n",
        "Title this product as a listing would.\n",
    ),
    "category": (
        "What category does this product belong to?\n", "What kind of product is this?\n",
        "Name the product's category.\n",
    ),
    "category_choice": (
        "Which category does this product belong to: {options}?\n", "Choose the kind of product: {options}.\n",
    ),
    "category_yes_no": ("Is this a {name}?\n", "Does this product belong to the category {name}?\n"),
    "extract": (
        "Title: {text}. Extract the {attribute} of the product. Answer 'unknown' if not stated.\n",
        "Product: {text}\nWhat is its {attribute}? Say 'unknown' where neither text nor image tells.\n",
        "From the listing \"{text}\" and the image, give the {attribute}, or 'unknown'.\n",
    ),
    "attribute": (
        "What is the {attribute} of this product?\n", "Name the product's {attribute}, or 'unknown'.\n",
        "Which {attribute} does the product in the image have?\n",
    ),
    "attribute_choice": (
        "What is the {attribute} of this product: {options}?\n", "Choose the product's {attribute}: {options}.\n",
    ),
    "attribute_yes_no": ("Is the {attribute} of this product {name}?\n", "Does it have the {attribute} {name}?\n"),
    "free": ("Title: {text}\nQuestion: {name}\n", "About the product {text}: {name}\n"),
}  # fmt: skip
# What the nano base has learned to read, up to where the answer follows; English is letters to it.
HOUSE: dict[str, tuple[str, ...]] = {
    "caption": ("item:", "found item:"),
    "category": ("look: category\nfound", "item: ; look: category\nfound", "category"),
    "category_choice": ("look: {options}\nfound", "category : {options}\nfound"),
    "category_yes_no": ("category : {name}", "found {name} : category"),
    "extract": (
        "item: {text}\nlook: {attribute}\nfound ; {attribute}", "item: {text}\nlook: {attribute}\n{attribute}",
        "item: {text}\nfound ; {attribute}",
    ),
    "attribute": ("look: {attribute}\nfound ; {attribute}", "item: ; {attribute}", "found ; {attribute}"),
    "attribute_choice": ("look: {attribute} {options}\nfound ; {attribute}", "{options}\nfound ; {attribute}"),
    "attribute_yes_no": ("{attribute} {name} must", "compare\n{attribute} must {name}"),
    "free": ("item: {text}\nlook: {name}\nfound ;", "item: {text}\nlook: {name}\n"),
}  # fmt: skip
WORDINGS: dict[Wording, dict[str, tuple[str, ...]]] = {"english": ENGLISH, "house": HOUSE}
BEFORE_ANSWER: dict[Wording, str] = {"english": "answer:", "house": ""}
# How an answer is said where it is not said as it is.
ANSWER_WORDS: dict[Wording, dict[str, str]] = {"english": {}, "house": {UNKNOWN: "none", YES: "match", NO: "conflict"}}


@dataclass(frozen=True)
class ProductQuestion:
    """A prompt and its right answer.

    product: place in the set. row: of its picture, -1 where none is shown. options: the answers that may be meant,
    empty where any text may be. form: open, choice or yes_no.
    """

    product: int
    row: int
    task: Task
    form: str
    prompt: str
    answer: str
    options: tuple[str, ...] = field(default=())
    attribute: str = ""
    wording: Wording = "english"


class TaskSettings(BaseModel):
    """Which questions are asked, in which words."""

    model_config = ConfigDict(extra="forbid")
    wording: Wording = Field(default="english", description="of the questions; house = the nano base's own words")
    shares: dict[Task, float] = Field(
        default={"caption": 1, "category": 1, "extract": 2, "attribute": 2, "free": 0.5},
        description="how often each task is asked, relative to the others",
    )
    unknown: float = Field(
        default=0.25, ge=0, le=0.9, description="share of attribute questions whose right answer is unknown"
    )
    without_picture: float = Field(
        default=0.1, ge=0, lt=1, description="share of extractions that show no picture: what the text lacks is unknown"
    )
    questions: int = Field(default=8, gt=0, description="for each product")


def questions_of(products: ProductSet, settings: TaskSettings, seed: int) -> list[ProductQuestion]:
    """`settings.questions` questions for each product, drawn with the seed; what a product cannot be asked is left out.

    Raises ValueError when no product can be asked anything.
    """
    tasks = [task for task in TASKS if settings.shares.get(task, 0) > 0]
    shares = np.asarray([settings.shares[task] for task in tasks], dtype=float)
    asked: list[ProductQuestion] = []
    for place, product in enumerate(products.products):
        writer = QuestionWriter(products, settings, np.random.default_rng([seed, 53, place]))
        for task in writer.rng.choice(len(tasks), settings.questions, p=shares / shares.sum()).tolist():
            question = writer.write(tasks[task], place, product)
            asked += [question] if question else []
    if not asked:
        raise ValueError(f"{len(products.products)} products have nothing that {', '.join(tasks)} could ask")
    return asked


class QuestionWriter:
    """Draws questions about the products of a set."""

    def __init__(self, products: ProductSet, settings: TaskSettings, rng: np.random.Generator) -> None:
        self.products, self.settings, self.rng = products, settings, rng
        self.words = WORDINGS[settings.wording]

    def write(self, task: Task, place: int, product: Product) -> ProductQuestion | None:
        """A question of that task about a product; None where the product has nothing to ask."""
        ways: dict[Task, Callable[[Product], _Draft | None]] = {
            "caption": self._caption, "category": self._category, "extract": self._extract,
            "attribute": self._attribute, "free": self._free,
        }  # fmt: skip
        draft = ways[task](product)
        if draft is None:
            return None
        prompt = self._any(self.words[draft.template]).format(**draft.words) + BEFORE_ANSWER[self.settings.wording]
        row, attribute = -1 if draft.blind else product.row, draft.words.get("attribute", "")
        return ProductQuestion(
            place, row, task, draft.form, prompt, draft.answer, draft.options, attribute, self.settings.wording
        )

    def _caption(self, product: Product) -> _Draft | None:
        return _Draft("caption", "open", product.caption) if product.caption else None

    def _category(self, product: Product) -> _Draft | None:
        names = self.products.categories
        if len(names) < 2 or not product.category:
            return None
        form = self._any(("open", "choice", "yes_no"))
        if form == "open":
            return _Draft("category", form, product.category, names)
        return self._closed("category", form, product.category, names, {})

    def _extract(self, product: Product) -> _Draft | None:
        name, value = self._asked(product, list(product.told))
        if not name:
            return None
        hides = self.products.hides and value != UNKNOWN and self.rng.random() < HIDDEN
        blind = bool(self.rng.random() < self.settings.without_picture)
        reads = name in product.text and not hides
        if not reads and (blind or name not in product.pictured):
            value = UNKNOWN
        words = {"text": product.line(name if hides else ""), "attribute": name}
        return _Draft("extract", "open", value, (*self.products.values[name], UNKNOWN), words, blind)

    def _attribute(self, product: Product) -> _Draft | None:
        """Without the text: what the picture does not tell is unknown here."""
        shown = [name for name in product.told if name in product.pictured]
        name, value = self._asked(product, shown, [name for name in product.told if name not in product.pictured])
        if not name:
            return None
        words, values = {"attribute": name}, self.products.values[name]
        form = self._any(("open", "open", "choice", "yes_no"))
        if form == "open" or value == UNKNOWN:
            return _Draft("attribute", "open", value, (*values, UNKNOWN), words)
        return self._closed("attribute", form, value, values, words)

    def _closed(self, kind: str, form: str, right: str, names: Sequence[str], words: Mapping[str, str]) -> _Draft:
        """A choice among a few names, or whether it is one; half of these are negatives."""
        others = [name for name in names if name != right]
        if form == "choice":
            wrong = self.rng.permutation(len(others))[: OPTIONS - 1]
            options = [right, *(others[n] for n in wrong)]
            options = [options[n] for n in self.rng.permutation(len(options))]
            return _Draft(f"{kind}_choice", form, right, tuple(options), {**words, "options": ", ".join(options)})
        positive = not others or self.rng.random() < 0.5
        name = right if positive else others[int(self.rng.integers(0, len(others)))]
        return _Draft(f"{kind}_yes_no", form, YES if name == right else NO, (YES, NO), {**words, "name": name})

    def _free(self, product: Product) -> _Draft | None:
        """One of the product's own questions, or two attributes at once."""
        if product.facts:
            question = self._any(tuple(product.facts))
            return _Draft("free", "open", product.facts[question], (), {"text": product.line(), "name": question})
        names = list(product.told)
        if len(names) < 2:
            return None
        first, second = (names[n] for n in self.rng.permutation(len(names))[:2])
        house = self.settings.wording == "house"
        question = f"{first} , {second}" if house else f"Which {first} and which {second} does it have?"
        answer = f"{product.told[first]} {'' if house else 'and '}{product.told[second]}"
        return _Draft("free", "open", answer, (), {"text": product.line(), "name": question})

    def _asked(self, product: Product, known: Sequence[str], lacking: Sequence[str] = ()) -> tuple[str, str]:
        """An attribute and its value, "unknown" for the share of the settings where there is something unknown."""
        untold = [*product.untold, *lacking]
        if untold and (not known or self.rng.random() < self.settings.unknown):
            return self._any(untold), UNKNOWN
        if not known:
            return "", ""
        name = self._any(known)
        return name, product.told[name]

    def _any(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(0, len(options)))]


@dataclass(frozen=True)
class _Draft:
    """What a template is filled with."""

    template: str
    form: str
    answer: str
    options: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    blind: bool = False


def extraction_prompt(text: Mapping[str, str] | str, attribute: str, wording: Wording = "english") -> str:
    """The question for one attribute of an item that is described: always the first wording of `extract`."""
    from goodrate.examples.product_items import listing_line

    line = text if isinstance(text, str) else listing_line(text)
    return WORDINGS[wording]["extract"][0].format(text=line, attribute=attribute) + BEFORE_ANSWER[wording]


def answer_text(answer: str, wording: Wording = "english") -> str:
    """The answer as it stands behind the prompt."""
    return f" {ANSWER_WORDS[wording].get(answer, answer)}"
