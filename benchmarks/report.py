"""The table: what is aimed at, what was reached, and both as a ratio.

A target that is held, "at least 1.6", is a promise; one that is hoped for says so.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]

HF, CT2, OURS, HALF = (
    "transformers float32",
    "ctranslate2 float32",
    "hardway float32",
    "hardway float16",
)


@dataclass(frozen=True)
class Target:
    """One line of the table; ``find`` looks the reached number up in the record."""

    what: str
    beside: str
    find: Callable[[Record], float]
    at_least: float | None = None
    at_most: float | None = None
    hoped: bool = False

    def line(self, record: Record) -> str:
        """Write it as a line of Markdown."""
        reached = self.find(record)
        if self.at_least is not None:
            wanted, good = f"≥ {self.at_least:g}", reached >= self.at_least
        else:
            wanted, good = f"≤ {self.at_most:g}", reached <= (self.at_most or 0)
        held = ("held" if good else "missed") + (" (hoped for)" if self.hoped else "")
        return f"| {self.what} | {self.beside} | {wanted} | {reached:.3g} | {held} |"


def median(record: Record, part: str, name: str) -> float:
    """Return the median of one thing measured."""
    return float(record[part][name]["median"])


def rate(part: str, ours: str, peer: str) -> Callable[[Record], float]:
    """Compare what is per second: how many times the peer's is ours?"""
    return lambda record: median(record, part, ours) / median(record, part, peer)


def time(part: str, ours: str, peer: str) -> Callable[[Record], float]:
    """Compare what takes seconds: how many of ours go into the peer's?"""
    return lambda record: median(record, part, peer) / median(record, part, ours)


def longest(kind: str) -> Callable[[Record], float]:
    """Compare a token behind the longest text with one behind the shortest."""
    return rate("growth", f"{kind} 1024", f"{kind} 64")


def bandwidth(record: Record) -> float:
    """Return the fastest that memory was read, in GB/s."""
    ways: Iterable[str] = record["bandwidth"]
    return max(median(record, "bandwidth", way) for way in ways)


def streamed(record: Record, kind: str) -> float:
    """Return the GB/s at which decode reads its weights."""
    tokens = median(record, "decode", f"hardway {kind}")
    return float(tokens * record["bytes"][kind] / 1e9)


def above(record: Record, way: str) -> float:
    """Return the megabytes that loading takes beyond the tensors themselves."""
    memory = record["load memory"]
    return float(memory[way] - memory["tensors"]) / 1e6


def dearer(record: Record) -> float:
    """Return by how many percent float16 raises the bits per byte."""
    bits: dict[str, float] = record["precision"]["bits per byte"]
    return 100 * abs(bits["float16"] / bits["float32"] - 1)


TARGETS = [
    Target("decode, float32", "transformers", rate("decode", OURS, HF), 1.6),
    Target("decode, float16", "transformers", rate("decode", HALF, HF), 3.5),
    Target(
        "decode, float16",
        "the memory",
        lambda r: streamed(r, "float16") / bandwidth(r),
        0.7,
    ),
    Target("decode, float32", "CTranslate2", rate("decode", OURS, CT2), 1, hoped=True),
    Target("decode, float16", "transformers", rate("decode", HALF, HF), 4, hoped=True),
    Target(
        "decode, float16",
        "CTranslate2 int8",
        rate("decode", HALF, "ctranslate2 int8"),
        2,
        hoped=True,
    ),
    Target("prefill of 512", "transformers", time("prefill", OURS, HF), 1),
    Target("prefill of 512", "CTranslate2", time("prefill", OURS, CT2), 1),
    Target("8 sequences", "transformers", rate("batch of 8", OURS, HF), 1),
    Target("32 sequences", "transformers", rate("batch of 32", OURS, HF), 1),
    Target("token 1024, float32", "token 64", longest("float32"), at_most=1.3),
    Target("token 1024, float16", "token 64", longest("float16"), at_most=1.3),
    Target(
        "tokenizer, warm",
        "tokenizers",
        time("tokenizer", "hardway warm", "tokenizers"),
        4,
    ),
    Target(
        "tokenizer, warm",
        "tiktoken",
        time("tokenizer", "hardway warm", "tiktoken"),
        0.6,
    ),
    Target(
        "tokenizer, cold",
        "tiktoken",
        time("tokenizer", "hardway cold", "tiktoken"),
        0.35,
    ),
    Target(
        "load_file",
        "safetensors + clone",
        rate("load", "hardway.load_file", "safetensors + clone"),
        at_most=1.3,
    ),
    Target(
        "from_pretrained",
        "safetensors + clone",
        rate("load", "GPT2.from_pretrained", "safetensors + clone"),
        at_most=1.3,
    ),
    Target(
        "load_file, MB more",
        "its tensors",
        lambda r: above(r, "hardway.load_file"),
        at_most=50,
    ),
    Target(
        "hardway --help, s",
        "",
        lambda r: median(r, "start", "hardway --help"),
        at_most=0.3,
    ),
    Target("bits per byte, % more", "float32", dearer, at_most=0.5),
]


def markdown(record: Record) -> str:
    """Write the table."""
    head = ["| what | beside | wanted | reached | |", "|---|---|---|---|---|"]
    return "\n".join(head + [target.line(record) for target in TARGETS]) + "\n"
