"""How fast text becomes ids, beside tiktoken and Hugging Face's tokenizers.

The text is English prose that Python brings along: the help pages of `pydoc`. All four
run in one process and one thread, in turn, so that what slows the machine for a moment
slows all of them.
"""

import os
import statistics
import time
from collections.abc import Callable
from pydoc_data.topics import topics
from unittest import mock

import tiktoken
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tokenizers import ByteLevelBPETokenizer

from hardway import load_tokenizer
from hardway.hub import POCKET
from hardway.tokenizer import END_OF_TEXT, WORD

TEXT = "".join(topics.values())
VOCAB, MERGES = str(POCKET / "vocab.json"), str(POCKET / "merges.txt")


def tiktoken_gpt2() -> tiktoken.Encoding:
    """Return tiktoken's GPT-2, built from the local files."""
    with mock.patch.dict(os.environ, {"TIKTOKEN_CACHE_DIR": ""}):
        ranks = data_gym_to_mergeable_bpe_ranks(MERGES, VOCAB)
    return tiktoken.Encoding(
        "gpt2",
        pat_str=WORD.pattern,
        mergeable_ranks=ranks,
        special_tokens={END_OF_TEXT: len(ranks)},
    )


def seconds(encode: Callable[[str], object]) -> float:
    """Return how long it takes to encode the text once."""
    start = time.perf_counter()
    encode(TEXT)
    return time.perf_counter() - start


def measure(repeats: int = 7) -> dict[str, list[float]]:
    """Return the seconds of each repeat; warm: with every word seen before."""
    warm, other = load_tokenizer("pocket"), tiktoken_gpt2()
    hugging_face = ByteLevelBPETokenizer.from_file(VOCAB, MERGES)
    ids = warm.encode(TEXT)
    assert ids == other.encode_ordinary(TEXT) == hugging_face.encode(TEXT).ids
    taken: dict[str, list[float]] = {}
    with mock.patch.dict(os.environ, {"TOKENIZERS_PARALLELISM": "false"}):
        for _ in range(repeats):
            for name, encode in (
                ("hardway warm", warm.encode),
                ("hardway cold", load_tokenizer("pocket").encode),
                ("tokenizers", lambda text: hugging_face.encode(text).ids),
                ("tiktoken", other.encode_ordinary),
            ):
                taken.setdefault(name, []).append(seconds(encode))
    return taken


def main() -> None:
    """Print the median of each, and how many times as fast it is as the others."""
    medians = {name: statistics.median(runs) for name, runs in measure().items()}
    megabytes = len(TEXT.encode()) / 1e6
    print(f"{megabytes:.2f} MB      MB/s  x tokenizers  x tiktoken")
    for name, median in medians.items():
        speed, peers = megabytes / median, (medians["tokenizers"], medians["tiktoken"])
        times = [f"{peer / median:12.2f}" for peer in peers]
        print(f"{name:12} {speed:6.1f}", *times)


if __name__ == "__main__":
    main()
