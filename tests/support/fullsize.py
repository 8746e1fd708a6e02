"""Build a checkpoint of GPT-2 124M's shape that computes what the pocket model does.

GPT-2's real weights cannot be had everywhere, but their shape can. So each vector of
pocket's residual stream is repeated six times (128 → 768), which no layer norm notices,
and every matrix is laid out so that it maps repeated vectors to repeated vectors. The
result has the 160 tensors, 124,439,808 parameters and 548,105,171 bytes of GPT-2's own
file, and pocket's logits.

    python tests/support/fullsize.py DIRECTORY
    HARDWAY_MODEL=DIRECTORY make book

Files are read and written here with struct and json, independently of the library.
"""

import json
import math
import shutil
import struct
import sys
from pathlib import Path

import torch
from torch import Tensor

POCKET = Path(__file__).parents[2] / "src" / "hardway" / "models" / "pocket"
SMALL_EMBD, SMALL_HEAD, SMALL_D_HEAD, SMALL_CTX = 128, 4, 32, 512
N_EMBD, N_HEAD, D_HEAD, N_CTX, N_VOCAB = 768, 12, 64, 1024, 50257
TIMES = N_EMBD // SMALL_EMBD  # 6
DATA_START = 14_291  # as in GPT-2's file: 3 bytes past a multiple of 4

# Pocket's six layers are the first three and the last three. The six in between are
# copies whose two output matrices are zero: they add nothing to the residual stream.
SOURCES = (0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5)
IDLE = range(3, 9)

CONFIG = {
    "activation_function": "gelu_new",
    "architectures": ["GPT2LMHeadModel"],
    "attn_pdrop": 0.1,
    "bos_token_id": 50256,
    "embd_pdrop": 0.1,
    "eos_token_id": 50256,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2",
    "n_ctx": N_CTX,
    "n_embd": N_EMBD,
    "n_head": N_HEAD,
    "n_layer": len(SOURCES),
    "n_positions": N_CTX,
    "resid_pdrop": 0.1,
    "vocab_size": N_VOCAB,
}


def read_pocket() -> dict[str, Tensor]:
    """Read pocket's float16 tensors as float32."""
    raw = bytearray((POCKET / "model.safetensors").read_bytes())
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + length])
    del header["__metadata__"]
    tensors = {}
    for name, info in header.items():
        start, end = (8 + length + offset for offset in info["data_offsets"])
        values = torch.frombuffer(raw[start:end], dtype=torch.float16)
        tensors[name] = values.reshape(info["shape"]).float()
    return tensors


def repeat_vector(x: Tensor) -> Tensor:
    """Repeat the last axis six times, as in the residual stream."""
    return x.repeat(*[1] * (x.dim() - 1), TIMES)


def repeat_matrix(weight: Tensor) -> Tensor:
    """Map repeated vectors to repeated ones: the sum is sixfold, so a sixth of it."""
    return weight.repeat(TIMES, TIMES) / TIMES


def place_heads(qkv: Tensor) -> Tensor:
    """Put the outputs of c_attn [..., 384] into the first 4 of 12 heads: [..., 2304].

    Zeros fill each head from 32 numbers to 64, and the other eight heads, so that no
    product changes. But scores are divided by √64 now, not √32: the query makes up for
    that with √2.
    """
    small = qkv.reshape(*qkv.shape[:-1], 3, SMALL_HEAD, SMALL_D_HEAD)
    large = torch.zeros(*qkv.shape[:-1], 3, N_HEAD, D_HEAD)
    large[..., :SMALL_HEAD, :SMALL_D_HEAD] = small
    large[..., 0, :, :] *= math.sqrt(D_HEAD / SMALL_D_HEAD)
    return large.flatten(-3)


def collect_heads(weight: Tensor) -> Tensor:
    """Spread the rows of attention's c_proj [128, 128] like the heads: [768, 768]."""
    large = torch.zeros(N_HEAD, D_HEAD, N_EMBD)
    small = repeat_vector(weight).reshape(SMALL_HEAD, SMALL_D_HEAD, N_EMBD)
    large[:SMALL_HEAD, :SMALL_D_HEAD] = small
    return large.flatten(0, 1)


def large_layer(small: dict[str, Tensor], idle: bool) -> dict[str, Tensor]:
    """Enlarge the twelve tensors of one block."""
    large = {name: repeat_vector(x) for name, x in small.items() if x.dim() == 1}
    c_attn = small["attn.c_attn.weight"].repeat(TIMES, 1) / TIMES
    large["attn.c_attn.weight"] = place_heads(c_attn)
    large["attn.c_attn.bias"] = place_heads(small["attn.c_attn.bias"])
    large["attn.c_proj.weight"] = collect_heads(small["attn.c_proj.weight"])
    large["mlp.c_fc.weight"] = repeat_matrix(small["mlp.c_fc.weight"])
    large["mlp.c_proj.weight"] = repeat_matrix(small["mlp.c_proj.weight"])
    if idle:
        for name in large:
            if ".c_proj." in name:
                large[name] = torch.zeros_like(large[name])
    return large


def large_tensors() -> dict[str, Tensor]:
    """Return the 160 tensors of the full-size file by name."""
    small = read_pocket()
    generator = torch.Generator().manual_seed(0)
    free = 0.02 * torch.randn(N_CTX - SMALL_CTX, N_EMBD, generator=generator)
    tensors = {
        "wte.weight": repeat_vector(small["wte.weight"]),
        "wpe.weight": torch.cat([repeat_vector(small["wpe.weight"]), free]),
        # logits are sums over the last norm's output, so six times too large
        "ln_f.weight": repeat_vector(small["ln_f.weight"]) / TIMES,
        "ln_f.bias": repeat_vector(small["ln_f.bias"]) / TIMES,
    }
    causal = torch.ones(N_CTX, N_CTX).tril().reshape(1, 1, N_CTX, N_CTX)
    for layer, source in enumerate(SOURCES):
        block = {
            name.removeprefix(f"h.{source}."): tensor
            for name, tensor in small.items()
            if name.startswith(f"h.{source}.")
        }
        # the causal mask is a constant, but GPT-2's file carries it along
        block = large_layer(block, layer in IDLE) | {"attn.bias": causal}
        tensors |= {f"h.{layer}.{name}": tensor for name, tensor in block.items()}
    return tensors


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write length, header and data, the header padded with spaces up to `DATA_START`.

    The listing goes by name, the data by size: so the offsets are short enough to fit.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    by_size = sorted(tensors.items(), key=lambda item: (item[1].numel(), item[0]))
    end = 0
    for name, tensor in by_size:
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    listing = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    listing = listing.ljust(DATA_START - 8)
    assert len(listing) == DATA_START - 8
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(listing)))
        file.write(listing)
        for _, tensor in by_size:
            file.write(tensor.contiguous().numpy().data)


def build(directory: Path) -> None:
    """Write a whole checkpoint: the weights, their config and pocket's vocabulary."""
    directory.mkdir(parents=True, exist_ok=True)
    write_safetensors(directory / "model.safetensors", large_tensors())
    (directory / "config.json").write_text(
        json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8"
    )
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(POCKET / name, directory / name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/support/fullsize.py DIRECTORY")
    build(Path(sys.argv[1]))
