"""Check what a chat is started with: its messages, and the model's chat template.

A chat template says how a conversation becomes one text. The file of a model holds it
as a program in the template language Jinja, which nothing here executes: it is only
compared with the format that `hardway.chat` writes, ChatML.
"""

import re
from collections.abc import Collection
from typing import Any, Protocol

from hardway.checks import check_text, items, safe_repr, some
from hardway.untrusted import prefix_errors

ROLES = ("system", "user", "assistant")
ADVICE = "chat with a model such as smollm2, or continue a text with `hardway generate`"

# What a ChatML template writes for every message, and to start a reply: without what
# `_squeeze` takes out, the line breaks included.
CHATML = (
    "<|im_start|>+message[role]++message[content]+<|im_end|>",
    "<|im_start|>assistant",
)


def check_messages(messages: Any, missing: bytes = b"") -> list[dict[str, str]]:
    """Return a conversation as a list of messages, each with a role and a content.

    missing: bytes that the vocabulary has no tokens for. An iterator is read once.
    Raises `ValueError` for no message at all, an unknown role, and a content that isn't
    text or cannot be encoded.
    """
    if isinstance(messages, dict):
        raise ValueError("messages must be a list of messages, got a single one")
    found = [
        _check_message(f"messages[{i}]", message, missing)
        for i, message in enumerate(items("messages", messages))
    ]
    if not found:
        raise ValueError("messages must hold at least one message, got []")
    return found


def _check_message(name: str, message: Any, missing: bytes) -> dict[str, str]:
    """Return a message's role and content, whatever else it holds."""
    try:
        role, content = message["role"], message["content"]
    except (KeyError, TypeError, IndexError):
        raise ValueError(
            f"{name} must be {{'role': …, 'content': …}}, got {safe_repr(message)}"
        ) from None
    if not isinstance(role, str) or role not in ROLES:
        raise ValueError(
            f"{name}['role'] must be one of {', '.join(ROLES)}, got {safe_repr(role)}"
        )
    with prefix_errors(f"{name}['content']"):
        check_text(content, missing)
    return {"role": role, "content": content}


def check_markers(known: Collection[str], markers: Collection[str]) -> None:
    """Raise `ValueError` for a tokenizer whose special tokens lack the markers."""
    if not {*markers} <= {*known}:
        raise ValueError(
            f"tokenizer must have the special tokens {' and '.join(markers)}, got "
            f"{some([*known])}: {ADVICE}"
        )


class Tokenizer(Protocol):
    """What the checks read of a tokenizer."""

    chat_template: Any
    missing: bytes


def check_chat(tokenizer: Tokenizer, system: Any, default: str) -> None:
    """Check what a chat is started with: a model's tokenizer, and a system message.

    system: None means the one of the model's template, which has to be ``default``
    then. Raises `ValueError` for a template that isn't ChatML, and for a system message
    that cannot be encoded.
    """
    check_template(tokenizer.chat_template)
    if system is not None:
        with prefix_errors("system"):
            check_text(system, tokenizer.missing)
    elif _squeeze(default) not in _squeeze(tokenizer.chat_template):
        raise ValueError(
            "system must be given for this model, because its chat template has "
            "another default system message, or none"
        )


def check_template(template: Any) -> None:
    """Raise `ValueError` unless a chat template is ChatML; None says there is none."""
    if template is None:
        raise ValueError(f"the model has no chat template: {ADVICE}")
    squeezed = _squeeze(template) if isinstance(template, str) else ""
    if "bos_token" in squeezed or not all(part in squeezed for part in CHATML):
        raise ValueError(
            f"the model's chat template must be ChatML, got {safe_repr(template)}: "
            f"{ADVICE}"
        )


def _squeeze(template: str) -> str:
    """Take out what may differ between two spellings of one Jinja expression."""
    named = re.sub(r"message\.(role|content)", r"message[\1]", template)
    return re.sub(r"""\s|["']|\\n""", "", named)


def check_room(n_system: int, n_new: int, n_ctx: int) -> None:
    """Raise `ValueError` where a message and its reply cannot fit in the context."""
    if n_system + n_new > n_ctx:
        raise ValueError(
            f"text and max_new_tokens must fit in n_ctx = {n_ctx} positions, got "
            f"{n_new} besides the {n_system} of the system message"
        )
