"""What reasons of facts are worth: each fact looked up again in the texts, by other means than it was read with."""

from __future__ import annotations

import re
import time
import unicodedata
from typing import Any

import numpy as np

from goodrate.relevance.lm_judge import LmJudge
from goodrate.relevance.pairs import JudgedPair
from goodrate.relevance.rationale import WORD_FACT, label_text, parse
from goodrate.teaching.fact_reading import FactReader
from goodrate.teaching.fact_teacher import FactTeacher

EXPLAINED = 48  # pairs whose reason is decoded


def looked_up(fact: tuple[str, str, str], pair: JudgedPair, reader: FactReader) -> bool:
    """Whether a fact holds by a search of its own in the item's text; measures and prices are taken as read."""
    kind, value, check = fact
    text = "".join(sign for sign in unicodedata.normalize("NFD", reader.text(pair.item).lower()) if sign < "\u0300")
    words = re.findall(r"[a-z0-9]+", text)
    there = all(any(alike(word, other) for other in words) for word in re.findall(r"[a-z0-9]+", value))
    brand = str(pair.item.get("brand") or "").lower()
    if kind == "brand" and check == "conflict":
        return not there and bool(brand)
    if kind == "brand" and check == "match":
        return brand[:3] == value[:3]
    if kind == "identifier":
        return (value in re.sub(r"[^a-z0-9]", "", text)) == (check == "match")
    if kind == "without":
        return there if check == "conflict" else True
    return there == (check == "match") if kind == WORD_FACT and value.isascii() else True


def alike(word: str, other: str) -> bool:
    """Whether two words are one but for a plural's ending."""
    short, long = sorted((word, other), key=len)
    return long in (short, short + "s", short + "es") or (short[:-1], long[:-3]) == (long[:-3], short[:-1])


def explained(
    teacher: FactTeacher, judge: LmJudge, pairs: list[JudgedPair], probabilities: np.ndarray
) -> dict[str, Any]:  # fmt: skip
    """Of EXPLAINED pairs, evenly spaced: reasons that can be read, whose facts are true, whose rule follows."""
    places = np.linspace(0, len(pairs) - 1, EXPLAINED).astype(int)
    shown, labels = [pairs[place] for place in places], probabilities[places].argmax(axis=1).tolist()
    begun = time.process_time()
    reasons = judge.explain(shown, labels)
    spent = time.process_time() - begun
    stated, true, whole, readable, follows = 0, 0, 0, 0, 0
    for known, label, one in zip(teacher.reader.read(shown), labels, reasons, strict=True):
        read = parse(f"{label_text(label)}\n{one.text}", num_labels=len(judge.scale))
        if read.rationale is None or one.status != "ok":
            continue
        readable += 1
        facts = set(read.rationale.facts)
        stated, true = stated + len(facts), true + len(facts & set(known.facts))
        whole += facts <= set(known.facts)
        rule = teacher.decide(known)
        follows += rule is not None and rule.id == read.rationale.rule
    said = [one.inconsistent for one in reasons if one.inconsistent is not None]
    tokens = sum(len(judge.model.encode(one.text)) for one in reasons)
    return {
        "explained": EXPLAINED, "readable": readable / EXPLAINED, "facts_true": true / stated if stated else None,
        "reasons_true": whole / readable if readable else None,
        "rule_follows": follows / readable if readable else None,
        "rule_against_label": float(np.mean(said)) if said else None, "reason_tokens": tokens / EXPLAINED,
        "written_tokens_per_second": tokens / spent,
    }  # fmt: skip
