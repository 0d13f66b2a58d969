"""The answer in what a served model writes: without the thoughts before it and the code block around it."""

from __future__ import annotations

import re

THOUGHTS = re.compile(r"<(think|thinking|thought|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
# Chat templates may write the opening mark themselves, so that the answer holds the closing one alone.
CLOSING = re.compile(r"^.*</(?:think|thinking|thought|reasoning)>", re.DOTALL | re.IGNORECASE)
UNCLOSED = re.compile(r"^\s*<(?:think|thinking|thought|reasoning)>", re.IGNORECASE)
FENCED = re.compile(r"^(?:```|~~~)[\w-]*[ \t]*\n(.*?)\n?(?:```|~~~)$", re.DOTALL)


def bare_answer(text: str) -> str:
    """The text behind a model's thoughts, out of its code block; "" where the thoughts never end.

    >>> bare_answer("hm</think>\\n```json\\n{}\\n```"), bare_answer("<think>4? 3?"), bare_answer(" 4 ")
    ('{}', '', '4')
    """
    bare = CLOSING.sub("", THOUGHTS.sub("", text)).strip()
    if UNCLOSED.match(bare):
        return ""
    fenced = FENCED.match(bare)
    return fenced.group(1).strip() if fenced else bare
