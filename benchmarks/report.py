"""The table: what is aimed at, what was reached, and both as a ratio.

A target that is held, "at least 1.6", is a promise; one that is hoped for says so.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]

HF, HF16, CT2, CT8 = (
    "transformers float32",
    "transformers bfloat16",
    "ctranslate2 float32",
    "ctranslate2 int8",
)
OURS, HALF, BF16, INT8, INT4 = (
    f"hardway {kind}" for kind in ("float32", "float16", "bfloat16", "int8", "int4")
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


def extra_bits(record: Record) -> float:
    """Return by how many percent float16 raises the bits per byte."""
    bits: dict[str, float] = record["precision"]["bits per byte"]
    return 100 * abs(bits["float16"] / bits["float32"] - 1)


TARGETS = [
    Target("decode, float32", "transformers", rate("decode", OURS, HF), 1.6),
    Target("decode, float16", "transformers", rate("decode", HALF, HF), 3.2),
    Target("decode, int8", "transformers", rate("decode", INT8, HF), 4.5),
    Target("decode, int4", "transformers", rate("decode", INT4, HF), 7),
    Target("decode, int8", "CTranslate2 int8", rate("decode", INT8, CT8), 1.5),
    Target("decode, int4", "CTranslate2 int8", rate("decode", INT4, CT8), 2),
    Target("decode, int4", "transformers", rate("decode", INT4, HF), 9, hoped=True),
    Target(
        "decode, int4",
        "llama.cpp Q4_0",
        rate("decode", INT4, "llama.cpp Q4_0"),
        1,
        hoped=True,
    ),
    Target("SmolLM2, decode", "llama.cpp", rate("smollm2", "hardway", "llama.cpp"), 1),
    Target(
        "SmolLM2, decode",
        "llama.cpp",
        rate("smollm2", "hardway", "llama.cpp"),
        1.15,
        hoped=True,
    ),
    Target(
        "SmolLM2, prefill of 512",
        "llama.cpp",
        time("smollm2 prefill", "hardway", "llama.cpp"),
        2,
    ),
    Target(
        "SmolLM2, load, s",
        "",
        lambda r: median(r, "smollm2 load", "hardway"),
        at_most=1.5,
    ),
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
        rate("decode", HALF, CT8),
        2,
        hoped=True,
    ),
    Target("prefill of 512", "transformers", time("prefill", OURS, HF), 1),
    Target("prefill of 512", "CTranslate2", time("prefill", OURS, CT2), 1),
    Target("8 sequences", "transformers", rate("batch of 8", OURS, HF), 1),
    Target("32 sequences", "transformers", rate("batch of 32", OURS, HF), 1),
    Target(
        "8 sequences, int4",
        "transformers bfloat16",
        rate("batch of 8", INT4, HF16),
        1.5,
    ),
    Target(
        "32 sequences, bfloat16",
        "transformers bfloat16",
        rate("batch of 32", BF16, HF16),
        1.5,
    ),
    Target("token 1024, float32", "token 64", longest("float32"), at_most=1.3),
    Target("token 1024, float16", "token 64", longest("float16"), at_most=1.3),
    Target(
        "16 ragged requests, SmolLM2",
        "one at a time",
        rate("serving", "at once", "one at a time"),
        2.5,
    ),
    Target(
        "16 ragged requests, SmolLM2",
        "transformers, padded",
        rate("serving", "at once", "transformers, padded"),
        2,
    ),
    Target(
        "summary with look-up, SmolLM2",
        "one token at a time",
        rate("speculation", "look-up", "alone"),
        1.3,
    ),
    Target(
        "TTFT behind 512 shared tokens",
        "the first time",
        rate("serving ttft", "second", "first"),
        at_most=0.2,
    ),
    Target(
        "engine, % of a step",
        "",
        lambda r: median(r, "serving overhead", "engine"),
        at_most=5,
    ),
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
    Target("bits per byte, % more", "float32", extra_bits, at_most=0.5),
]


def speeds(record: Record) -> str:
    """Write what decode reached: tokens/s, as a ratio, in GB/s, of the bandwidth."""
    lines = [
        "| decode | tokens/s | fastest | × transformers float32 | GB/s | of memory |",
        "|---|---|---|---|---|---|",
    ]
    slowest, memory = median(record, "decode", HF), bandwidth(record)
    for name, found in record["decode"].items():
        kind = name.removeprefix("hardway ")
        tokens = found["median"]
        read = tokens * record["bytes"].get(kind, 0) / 1e9 if kind != name else 0.0
        share = f"{read:.1f} | {read / memory:.0%}" if read else "| "
        lines.append(
            f"| {name} | {tokens:.1f} | {found['high']:.1f} | {tokens / slowest:.2f} | "
            f"{share} |"
        )
    return "\n".join(lines) + "\n"


def markdown(record: Record) -> str:
    """Write the table."""
    head = ["| what | beside | wanted | reached | |", "|---|---|---|---|---|"]
    return "\n".join(head + [target.line(record) for target in TARGETS]) + "\n"
