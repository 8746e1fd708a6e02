"""Make the files that the living figures load: the model, its vocabulary, the program.

The model is the bundled one in every copy of the book. Its matrices have 8 bits a
number, one scale for each row, by `hardway.quantization`. A file's name contains a hash
of its contents, so that a browser may keep it. A script can't fetch from a page that
was opened as a file; for that, each has a twin that is a script.
"""

import json
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from hardway import GPT2, Tokenizer
from hardway.quantization import dequantize, quantize
from paths import FIGURES
from theme import recorded

FOLDER = "figures"  # in _static
DTYPES = {torch.float32: "F32", torch.int8: "I8", torch.uint16: "U16"}
ROWS = {"wte.weight", "wpe.weight"}  # the other matrices are stored [n_in, n_out]
PROGRAM = (
    "engine/tensors", "engine/weights", "engine/tokenizer", "engine/sampling",
    "engine/model", "engine/miniature", "engine/scheduler", "engine/service",
    "ui/page", "ui/generate", "ui/sampling", "ui/attention", "ui/tokenizer",
    "ui/kv-cache", "ui/logit-lens", "ui/miniature", "ui/scheduler", "ui/start",
)  # fmt: skip


@cache
def pocket() -> tuple[dict[str, Tensor], GPT2]:
    """Return the quantized tensors of the bundled model, and the model they make."""
    model = GPT2.from_pretrained("pocket")
    tensors, weights = dict[str, Tensor](), dict[str, Tensor]()
    for name, weight in model.weights.items():
        if weight.dim() == 1:
            tensors[name] = weights[name] = weight
            continue
        quantized = quantize(weight if name in ROWS else weight.T, bits=8)
        tensors[name] = quantized.codes
        tensors[f"{name}.scales"] = quantized.scales[:, 0]
        matrix = dequantize(quantized)
        weights[name] = matrix if name in ROWS else matrix.T.contiguous()
    return tensors, GPT2(model.config, weights)


@cache
def vocabulary() -> dict[str, Tensor]:
    """Return the byte of each of the first 256 ids, and the merges as pairs of ids.

    Raises `ValueError` for a vocabulary that isn't numbered as GPT-2's is.
    """
    tokenizer = Tokenizer.from_pretrained("pocket")
    pairs = [(tokenizer.ids[a], tokenizer.ids[b]) for a, b in tokenizer.ranks]
    pieces = [tokenizer.pieces[id] for id in range(256)]
    pieces += [tokenizer.pieces[a] + tokenizer.pieces[b] for a, b in pairs]
    if [*map(tokenizer.ids.get, pieces)] != [*range(tokenizer.eot_id)]:
        raise ValueError("vocab: ids must be those of the bytes, then of the merges")
    return {
        "bytes": torch.tensor([piece[0] for piece in pieces[:256]], dtype=torch.uint16),
        "merges": torch.tensor(pairs, dtype=torch.uint16),
    }


def safetensors(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> bytes:
    """Write a safetensors file, with the model's sizes as its metadata."""
    header: dict[str, Any] = {"__metadata__": {"config": json.dumps(config)}}
    data = b""
    for name, tensor in tensors.items():
        content = tensor.contiguous().numpy().tobytes()
        place = [len(data), len(data) + len(content)]
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": [*tensor.shape],
            "data_offsets": place,
        }
        data += content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@cache
def files() -> dict[str, bytes]:
    """Return every file of the figures, by its name in `FOLDER`."""
    tensors, model = pocket()
    made = dict[str, bytes]()
    names = dict[str, dict[str, Any]]()
    for name, content in (
        ("weights", safetensors(tensors, vars(model.config))),
        ("tokenizer", safetensors(vocabulary(), {})),
    ):
        file = hashed(name, content)
        names[name] = {"file": file, "bytes": len(content)}
        made[f"{file}.bin"] = content
        made[f"{file}.js"] = script(file, b64encode(content).decode())
    made |= {f"{hashed('figures', text)}.js": text for text in [program(names)]}
    style = (FIGURES / "figures.css").read_bytes()
    made[f"{hashed('figures', style)}.css"] = style
    for figure, answers in recordings().items():
        content = script("recorded", answers)
        made[f"{hashed(f'recorded-{figure}', content)}.js"] = content
    return made


@cache
def recordings() -> dict[str, list[recorded.Question]]:
    """Return the library's answers to each figure's first questions."""
    return recorded.answers(pocket()[1], defaults())


def program(names: Mapping[str, Any]) -> bytes:
    """Return the whole program as one script that defines no names but ``hardway``."""
    parts = [(FIGURES / f"{part}.js").read_text(encoding="utf-8") for part in PROGRAM]
    constants = f"const FILES = {json.dumps(names)};\n"
    constants += f"const DEFAULTS = {json.dumps(defaults())};\n"
    body = "\n".join([constants, *parts])
    return f'(() => {{\n"use strict";\n{body}}})();\n'.encode()


@cache
def defaults() -> dict[str, dict[str, Any]]:
    """Return what each figure shows before a reader changes it."""
    text = (FIGURES / "defaults.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def script(name: str, value: Any) -> bytes:
    """Return a script that hands the program a value."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return f"hardway.receive({json.dumps(name)},{text});\n".encode()


def hashed(name: str, content: bytes) -> str:
    """Return a name with a hash of the contents."""
    return f"{name}-{sha256(content).hexdigest()[:12]}"


def named(kind: str, suffix: str) -> str:
    """Return the name of the file of a kind, such as ``figures`` and ``.css``."""
    return next(
        name
        for name in files()
        if name.rpartition("-")[0] == kind and name.endswith(suffix)
    )
