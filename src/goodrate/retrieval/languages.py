"""What an index knows of the language of its texts and queries: how words are cut and stemmed, rules for queries."""

from __future__ import annotations

from typing import Any

from goodrate.retrieval.rewriting.constraint_rules import languages as with_rules

# Code -> the engine's name of the stemmer.
STEMMERS = {
    "ar": "Arabic", "da": "Danish", "de": "German", "el": "Greek", "en": "English", "es": "Spanish", "fi": "Finnish",
    "fr": "French", "hu": "Hungarian", "it": "Italian", "nl": "Dutch", "no": "Norwegian", "pt": "Portuguese",
    "ro": "Romanian", "ru": "Russian", "sv": "Swedish", "ta": "Tamil", "tr": "Turkish",
}  # fmt: skip
# Written without blanks: words are found by pairs of letters.
PAIRED = ("ja", "ko", "th", "zh")
LANGUAGES = (*sorted((*STEMMERS, *PAIRED)), "none")


def check_language(language: str) -> str:
    """The language. ValueError with the known ones for another."""
    if language not in LANGUAGES:
        raise ValueError(f"unknown language {language!r}; known: {', '.join(LANGUAGES)} (no stemmer, no rules)")
    return language


def word_settings(language: str) -> dict[str, Any]:
    """How the engine's full text cuts and stems words (arguments of lancedb.index.FTS)."""
    if language in PAIRED:
        return {"base_tokenizer": "ngram", "ngram_min_length": 1, "ngram_max_length": 2, "stem": False}
    return {"language": STEMMERS[language], "stem": True} if language in STEMMERS else {"stem": False}


def rules_language(language: str) -> str | None:
    """The language of the rules by which queries are read; None where there are none."""
    return language if language in with_rules() else None
