"""How well texts are written for pictures: CIDEr, BLEU-4 and ROUGE-L, computed by pycocoevalcap (extra captions)."""

from __future__ import annotations

from collections.abc import Sequence

from goodrate.catalog.normal_form import normal_text
from goodrate.extras import require


def caption_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """CIDEr (0..10), BLEU-4 and ROUGE-L (0..1) of N captions, each against one reference or more.

    Words are those of the normal form, split at blanks, and not those of the Penn Treebank tokenizer, which needs Java:
    numbers of papers that use it are not comparable to the last digit. CIDEr takes the rarity of words from the
    references, so it says nothing of a single item. Raises ValueError for unequal lengths, no caption, or an item
    without a reference, and MissingExtra without the library.
    """
    if len(captions) != len(references):
        raise ValueError(f"{len(captions)} captions and {len(references)} lists of references; expected as many")
    if not captions:
        raise ValueError("no captions to score")
    lonely = next((place for place, own in enumerate(references) if not own), None)
    if lonely is not None:
        raise ValueError(f"caption {lonely} has no reference")
    require("captions", "scoring captions")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    said = {place: [normal_text(text)] for place, text in enumerate(captions)}
    wanted = {place: [normal_text(text) for text in own] for place, own in enumerate(references)}
    bleu, _ = Bleu(4).compute_score(wanted, said, verbose=0)
    cider, _ = Cider().compute_score(wanted, said)
    rouge, _ = Rouge().compute_score(wanted, said)
    return {"CIDEr": float(cider), "BLEU-4": float(bleu[3]), "ROUGE-L": float(rouge)}
