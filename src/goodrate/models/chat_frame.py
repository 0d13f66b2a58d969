"""What a model's chat template writes around a message, in two parts, so that a prompt's beginning stays shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MESSAGE = "a message that no template has 7f3a"  # nothing that a template would cut off at its ends


@dataclass(frozen=True)
class ChatFrame:
    """opening + prefix, suffix + closing. The message loses spaces and line breaks at both ends, as in many templates.

    The closing ends where the model's answer begins. Two empty texts frame nothing and cut nothing.
    """

    opening: str = ""
    closing: str = ""

    def around(self, prefix: str, suffix: str) -> tuple[str, str]:
        """The two parts of a prompt in the frame.

        >>> ChatFrame("<user>\\n", "<end>\\n<model>\\n").around("query: lamp\\n", "item: red lamp\\nanswer:\\n")
        ('<user>\\nquery: lamp\\n', 'item: red lamp\\nanswer:<end>\\n<model>\\n')
        """
        if not (self.opening or self.closing):
            return prefix, suffix
        return self.opening + prefix.lstrip(), suffix.rstrip() + self.closing


def chat_frame(tokenizer: Any, name: str = "the tokenizer") -> ChatFrame:
    """The frame of a tokenizer's chat template around one message of a user, without a system message.

    Raises ValueError when there is no template, or none that holds a message as it is.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            f"{name} has no chat template; set format.chat to false, or null to use one where there is one"
        )
    try:
        messages = [{"role": "user", "content": MESSAGE}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # jinja's own, and whatever a template raises
        raise ValueError(
            f"{name}: its chat template takes no message of a user ({error}); set format.chat to false"
        ) from error
    parts = str(text).split(MESSAGE)
    if len(parts) != 2:
        raise ValueError(f"{name}: its chat template does not hold a message once, as it is; set format.chat to false")
    return ChatFrame(*parts)
