"""Measure the library beside other programs: ``make bench``.

Prints a table of what is aimed at and what was reached, and keeps both it and every
number: benchmarks/record.md and book/record.json, which the page "How fast is it?"
shows.
"""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import hardway
import load
import models
import precision
import report
import serving
import speculation
import speed
import tokenizer
from hardway.fast.gpt2 import QuantizedGPT2
from hardway.fast.packed import Packed
from hardway.fast.quantized_llama import QuantizedLlama
from measure import check_idle, clock, interleave, machine, streaming, summary

HERE = Path(__file__).parent
RECORD = HERE.parent / "book" / "record.json"
LENGTHS = (64, 128, 256, 512, 1024)
console = Console(highlight=False)


def main(directory: Path) -> None:
    """Measure everything, on the random model that is, or will be, in ``directory``."""
    check_idle()
    models.write_random(directory)
    peers = speed.Peers(directory)
    record: dict[str, Any] = {"date": date.today().isoformat(), "machine": machine()}
    console.print("Measuring: decode …")
    memory = streaming()
    found = interleave(memory | speed.decode(peers))
    read = {name: found.pop(name) for name in memory}
    record["bandwidth"] = summary(read, "GB/s")
    record["decode"] = summary(found, "tokens/s")
    for name, unit, runs in (
        ("prefill", "s", speed.prefill(peers)),
        ("batch of 8", "tokens/s", speed.batched(peers, 8)),
        ("batch of 32", "tokens/s", speed.batched(peers, 32)),
        ("growth", "s", speed.growth(peers, LENGTHS)),
        ("smollm2", "tokens/s", speed.smollm2(peers)),
        ("smollm2 prefill", "s", speed.smollm2_prefill(peers)),
        ("smollm2 load", "s", {"hardway": lambda: clock(speed.load_smollm2)}),
    ):
        console.print(f"Measuring: {name} …")
        record[name] = summary(interleave(runs), unit)
    console.print("Measuring: speculation, serving …")
    guesses = interleave(speculation.summarize(peers.smollm2))
    record["speculation"] = summary(guesses, "tokens/s")
    load_of_16 = serving.Load(directory)
    at_once = {"at once": lambda: load_of_16.at_once(16)}
    others = {
        "one at a time": load_of_16.one_at_a_time,
        "transformers, padded": load_of_16.padded,
    }
    record["serving"] = summary(interleave(at_once | others, rounds=3), "tokens/s")
    waits = {
        "first": lambda: load_of_16.first_token(found=False),
        "second": lambda: load_of_16.first_token(found=True),
    }
    record["serving ttft"] = summary(interleave(waits, rounds=3), "s")
    overhead = interleave({"engine": load_of_16.overhead}, rounds=3)
    record["serving overhead"] = summary(overhead, "%")
    console.print("Measuring: tokenizer, load, start …")
    record["tokenizer"] = summary(tokenizer.measure(), "s")
    checkpoint = directory / "model.safetensors"
    record["load"] = summary(load.measure(checkpoint), "s")
    record["load memory"] = load.peak_bytes(checkpoint)
    record["load memory"]["tensors"] = load.tensor_bytes(checkpoint)
    record["start"] = summary(interleave({"hardway --help": start}), "s")
    record["bytes"] = bytes_read(peers)
    console.print("Measuring: what float16 costs …")
    record["precision"] = judge_float16(peers)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    table = f"{report.speeds(record)}\n{report.markdown(record)}"
    (HERE / "record.md").write_text(table)
    console.print(table)


def start() -> float:
    """Return the seconds until the command line has answered."""
    command = [sys.executable, "-m", "hardway", "--help"]
    return clock(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def bytes_read(peers: speed.Peers) -> dict[str, int]:
    """Count the bytes of weights that one decoded token needs.

    Of the two tables of embeddings it looks up a row each; ``wte`` is read once more,
    whole, for the logits.
    """
    found = {
        name: sum(w.nbytes for key, w in model.weights.items() if key != "wpe.weight")
        for name, model in (("float32", peers.float32), ("float16", peers.float16))
    }
    packed = {"bfloat16": peers.bfloat16, "int8": peers.int8, "int4": peers.int4}
    for name, coded in packed.items():
        assert isinstance(coded, QuantizedGPT2)
        found[name] = sum(map(n_bytes, coded.packed.values()))
    assert isinstance(peers.smollm2, QuantizedLlama)
    matrices = [*peers.smollm2.packed.values(), peers.smollm2.head]
    return found | {"smollm2": sum(map(n_bytes, matrices))}


def n_bytes(matrix: torch.Tensor | Packed) -> int:
    """Return the bytes of a matrix, its scales included."""
    if isinstance(matrix, torch.Tensor):
        return matrix.nbytes
    return sum(
        part.nbytes for part in vars(matrix).values() if isinstance(part, torch.Tensor)
    )


def judge_float16(peers: speed.Peers) -> dict[str, object]:
    """Compare float16 with float32, on random weights and on pocket's, perturbed."""
    pocket = models.perturbed_pocket()
    pocket16 = models.rounded(pocket, torch.float16)
    text = (HERE / "stories.txt").read_text()
    tokens = hardway.load_tokenizer("pocket")
    ids = [tokens.eot_id, *tokens.encode(text.strip())]
    prompts = [ids[i * 25 : i * 25 + 16] for i in range(50)]
    source = torch.Generator().manual_seed(0)
    random_prompts = torch.randint(0, 50_000, (50, 16), generator=source).tolist()
    n_bytes = len(text.strip().encode())
    return {
        "random": precision.agreement(
            peers.float32, peers.float16, random_prompts, 200
        ),
        "pocket": precision.agreement(pocket, pocket16, prompts, 200),
        "bits per byte": {
            "float32": precision.bits_per_byte(pocket, ids, n_bytes),
            "float16": precision.bits_per_byte(pocket16, ids, n_bytes),
            "bytes": n_bytes,
        },
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
