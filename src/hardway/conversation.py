"""Check what a chat is started with: its messages, and the model's chat template.

A chat template says how a conversation becomes one text. The file of a model holds it
as a program in the template language Jinja, which nothing here executes: it is only
compared with the format that `hardway.chat` writes, ChatML.
"""

import re
from collections.abc import Collection
from typing import Any

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


def check_messages(messages: Any) -> list[dict[str, str]]:
    """Return a conversation as a list of messages, each with a role and a content.

    An iterator is read once. Raises `ValueError` for no message at all, an unknown
    role, and a content that isn't text.
    """
    if isinstance(messages, dict):
        raise ValueError("messages must be a list of messages, got a single one")
    found = [
        _check_message(f"messages[{i}]", message)
        for i, message in enumerate(items("messages", messages))
    ]
    if not found:
        raise ValueError("messages must hold at least one message, got []")
    return found


def _check_message(name: str, message: Any) -> dict[str, str]:
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
        check_text(content)
    return {"role": role, "content": content}


def check_markers(known: Collection[str], markers: Collection[str]) -> None:
    """Raise `ValueError` for a tokenizer whose special tokens lack the markers."""
    if not {*markers} <= {*known}:
        raise ValueError(
            f"tokenizer must have the special tokens {' and '.join(markers)}, got "
            f"{some([*known])}: {ADVICE}"
        )


def check_template(template: Any, system: Any, default: str) -> None:
    """Check that a model's chat template is ChatML; None says that it has none.

    system: the system message, or None where the template's own is meant, which has to
    be ``default`` then. Raises `ValueError` for any other template, and for a system
    message that isn't text.
    """
    if template is None:
        raise ValueError(f"the model has no chat template: {ADVICE}")
    squeezed = _squeeze(template) if isinstance(template, str) else ""
    if "bos_token" in squeezed or not all(part in squeezed for part in CHATML):
        raise ValueError(
            f"the model's chat template must be ChatML, got {safe_repr(template)}: "
            f"{ADVICE}"
        )
    if system is not None:
        with prefix_errors("system"):
            check_text(system)
    elif _squeeze(default) not in squeezed:
        raise ValueError(
            "system must be given for this model, because its chat template has "
            "another default system message, or none"
        )


def _squeeze(template: str) -> str:
    """Take out what may differ between two spellings of one Jinja expression."""
    named = re.sub(r"message\.(role|content)", r"message[\1]", template)
    return re.sub(r"""\s|["']|\\n""", "", named)


def check_room(n_system: int, n_text: int, max_new_tokens: int, n_ctx: int) -> None:
    """Raise `ValueError` where a message and its reply cannot fit in the context."""
    if n_system + n_text + max_new_tokens > n_ctx:
        raise ValueError(
            f"text and max_new_tokens must fit in n_ctx = {n_ctx} positions with the "
            f"{n_system} of the system message, got {n_text} + {max_new_tokens}"
        )
