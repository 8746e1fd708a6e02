"""What a refusal has to say: its type, and the argument or the entry it is about."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

# Options of generation that are out of range, as (name, value).
BAD_OPTIONS: list[tuple[str, Any]] = [
    *(("temperature", value)
      for value in (-0.1, float("nan"), float("inf"), -float("inf"), True, "1", None)),
    *(("top_k", value) for value in (0, -1, True, 1.0, "1")),
    *(("top_p", value)
      for value in (0, 0.0, -0.1, 1.1, 2, float("nan"), float("inf"), True, "1")),
    *(("seed", value) for value in (-1, 2**63, True, 1.0, "1")),
    *(("min_p", value) for value in (-0.1, 1.1, float("nan"), True, "1")),
    *(("repetition_penalty", value)
      for value in (0, -1, 1e-40, 1e30, float("inf"), None, True)),
    *((f"{name}_penalty", value)
      for name in ("frequency", "presence")
      for value in (-2.1, 2.1, float("nan"), None, "1")),
    *(("logit_bias", value) for value in ([1, 2], {1: 101}, {1: "x"}, {1: None}, 3)),
    *(("logit_bias", value) for value in ({"1": 1}, {-1: 1}, {True: 1})),
    *(("constraint", value) for value in ("[0-9]+", 3, {})),
]  # fmt: skip

# What `device` may not be, on this machine.
BAD_DEVICES: list[Any] = ["gpu", "cuda:99", "", None, torch.float16, [], 1.5]
if not torch.cuda.is_available():
    BAD_DEVICES.append("cuda")


def refuses(argument: str, kind: type[Exception] = ValueError) -> Any:
    """Expect an error whose message begins with the argument's name."""
    return pytest.raises(kind, match=rf"^{re.escape(argument)}(?!\w)")


def refuses_file(path: Path, entry: str, kind: type[Exception] = ValueError) -> Any:
    """Expect an error that begins with the file's name, once, and names the entry."""
    name = re.escape(path.name)
    place, about = re.escape(f"{path}: "), re.escape(entry)
    return pytest.raises(kind, match=rf"^{place}(?!.*{name}).*{about}")
