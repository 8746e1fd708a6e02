"""Llama in 16, 8 or 4 bits a number, or in a file's own codes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from hardway import checkpoint, gguf, inputs, untrusted
from hardway.config import LlamaConfig
from hardway.fast.linear import linear
from hardway.fast.llama import FastLlama, join_inputs, rms_norm, split_outputs
from hardway.fast.packed import (
    BlockTable,
    Packed,
    Rows,
    as_float,
    fewer_bits,
    join,
    pack,
    quantize_codes,
    quantize_head,
    quantize_table,
    read_codes,
)
from hardway.llama import (
    Llama,
    checkpoint_name,
    read_config,
    rope_angles,
    transpose_matrices,
    unpermute,
)
from hardway.model import Trace
from hardway.quantization import Quantized, dequantize

Matrix = Quantized | Tensor


class QuantizedLlama(FastLlama):
    """A `hardway.fast.llama.FastLlama` whose matrices take few bits a number.

    ``packed`` holds them by their names, joined where they share their input;
    ``weights`` holds the norms. Products round their vectors to bfloat16; the residual
    stream, attention, and the cache are float32. The rows of query and key matrices are
    in llama.cpp's order, in which RoPE turns neighbors: one product of complex numbers.
    """

    def __init__(
        self,
        config: LlamaConfig,
        norms: Mapping[str, Tensor],
        matrices: Mapping[str, Matrix],
        table: Tensor | Rows | BlockTable,
        head: Tensor | Packed,
    ) -> None:
        """Lay the parts out for the products.

        norms, float32, and matrices, [n_out, n_in] in codes or float32, by their names;
        table: the embeddings, [n_vocab, n_embd]; head: the output matrix,
        [n_embd, n_vocab].
        """
        self.config, self.weights = config, dict(norms)
        self.device, self.compute_dtype = torch.device("cpu"), torch.float32
        self.packed = {
            name: pack(part)
            for name, part in join_inputs(config, matrices, join_rows).items()
        }
        nested = checkpoint.nest(self.weights | self.packed)["layers"]
        self.blocks = [nested[str(layer)] for layer in range(config.n_layer)]
        self.table, self.head, self.norm = table, head, norms["norm.weight"]

    @classmethod
    def from_gguf(cls, path: Path) -> Self:
        """Run a file's own 4-bit codes, not one of them changed.

        Matrices of 5 bits or more, the output head too, are rounded to 8 bits, a row to
        a scale; embeddings, and what the file doesn't quantize, stay as they are.
        Raises `ValueError` for a file that is not a Llama implemented here.
        """
        config, found = read_config(path), gguf.read_header(path).tensors
        infos = {checkpoint_name(name): info for name, info in found.items()}
        with untrusted.prefix_errors(path):
            check_entries(config, infos)
        norms: dict[str, Tensor] = {}
        matrices: dict[str, Matrix] = {}
        for name, info in infos.items():
            if len(info.shape) == 1:
                norms[name] = read_finite(path, name, info)
            elif name.startswith("layers."):
                matrices[name] = read_matrix(path, name, info)
        embeddings = infos["embed_tokens.weight"]
        blocks = gguf.read_blocks(path, embeddings)
        table = BlockTable(embeddings.kind, blocks, embeddings.shape)
        name = "embed_tokens.weight" if config.tied else "lm_head.weight"
        head = read_finite(path, name, infos[name])
        if infos[name].kind in FLOATS:
            return cls(config, norms, matrices, table, head.T)
        rows = quantize_table(head, "int8")
        return cls(config, norms, matrices, table, quantize_head(head, rows, "int8"))

    @classmethod
    def from_weights(
        cls, config: LlamaConfig, weights: Mapping[str, Tensor], kind: str
    ) -> Self:
        """Quantize float32 weights on a CPU; kind: one of ``packed.KINDS``.

        Raises `ValueError` for 4 bits where a matrix's n_in is not a multiple of 32.
        """
        norms = {name: w for name, w in weights.items() if w.dim() == 1}
        matrices = {
            name: fewer_bits(in_file_order(config, name, w.T), kind)
            for name, w in weights.items()
            if name.startswith("layers.") and name not in norms
        }
        output = weights["embed_tokens.weight"]
        table = rows = quantize_table(output, kind)
        if not config.tied:
            output = weights["lm_head.weight"]
            rows = quantize_table(output, kind)
        head = quantize_head(output, rows, kind)
        return cls(config, norms, matrices, table, head)

    def rotation(self, positions: Tensor) -> Callable[[Tensor], Tensor]:
        """Return RoPE for tokens at these positions, on pairs of neighbors."""
        config = self.config
        angles = rope_angles(positions, config.d_head, config.rope_theta)
        turns = torch.polar(torch.ones_like(angles), angles)[:, None]
        return partial(rotate_neighbors, turns=turns)

    def dequantize(self) -> Llama:
        """Return the taught model with what the codes stand for, in float32."""
        weights = dict(self.weights)
        every = torch.arange(self.config.n_vocab)
        weights["embed_tokens.weight"] = self.table[every].float()
        weights["lm_head.weight"] = as_float(self.head).T
        for name, part in self.packed.items():
            for key, columns in split_outputs(self.config, name, as_float(part)):
                n_head = heads_of(self.config, key)
                rows = unpermute(columns.T, n_head) if n_head else columns.T
                weights[key] = rows.T
        return Llama(replace(self.config, tied=False), weights)

    def trace(self, tokens: Tensor) -> Trace:
        """Run one sequence, int64 [T], through the dequantized model, in float32."""
        return self.dequantize().trace(tokens)

    def logits(self, x: Tensor) -> Tensor:
        """Like `hardway.llama.Llama.logits`, with the quantized head."""
        x = rms_norm(x, self.norm, self.config.rms_norm_eps)
        return linear(x, self.head).float()

    def to(self, device: torch.device | str) -> Self:
        """Return the model itself for a CPU: the packed products run nowhere else."""
        inputs.check_cpu(device)
        return self


FLOATS = ("F32", "F16", "BF16")  # the kinds of tensor that aren't quantized


def check_entries(config: LlamaConfig, infos: Mapping[str, gguf.TensorInfo]) -> None:
    """Raise `ValueError` for a tensor that is missing, unknown or misshapen."""
    shapes = {n: torch.empty(i.shape, device="meta") for n, i in infos.items()}
    checkpoint.check_shapes(config, transpose_matrices(shapes))


def read_finite(path: Path, name: str, info: gguf.TensorInfo) -> Tensor:
    """Read a tensor as float32; raise `ValueError` for NaN or infinity in it."""
    tensor = gguf.read_tensor(path, info)
    with untrusted.prefix_errors(path):
        checkpoint.check_finite(name, tensor)
    return tensor


def read_matrix(path: Path, name: str, info: gguf.TensorInfo) -> Matrix:
    """Read a matrix [n_out, n_in]: 4-bit codes as they are, other codes as 8 bits."""
    if info.kind in ("Q4_0", "Q4_1"):
        codes = read_codes(info.kind, gguf.read_blocks(path, info), info.shape)
        with untrusted.prefix_errors(path):
            checkpoint.check_finite(name, codes.scales)
            checkpoint.check_finite(name, codes.zeros)
        return codes
    tensor = read_finite(path, name, info)
    return tensor if info.kind in FLOATS else quantize_codes(tensor, "int8")


def join_rows(parts: Sequence[Matrix]) -> Matrix:
    """Stack matrices; codes stay codes if all have groups of one size."""
    codes = [part for part in parts if isinstance(part, Quantized)]
    if len(codes) == len(parts) and len({c.scales.shape[1] for c in codes}) == 1:
        return join(codes)
    return torch.cat([p if isinstance(p, Tensor) else dequantize(p) for p in parts])


def rotate_neighbors(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate number 2i together with number 2i + 1, as one complex number.

    x: float32 [N, n, d_head]; turns: complex64 [N, 1, d_head / 2], of length 1.
    """
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2)


def heads_of(config: LlamaConfig, name: str) -> int:
    """Return how many heads a query or key matrix has, and 0 for any other."""
    if "q_proj" in name:
        return config.n_head
    return config.n_kv_head if "k_proj" in name else 0


def in_file_order(config: LlamaConfig, name: str, weight: Tensor) -> Tensor:
    """Undo `hardway.llama.unpermute`: a query or key matrix's rows as llama.cpp's."""
    if n_head := heads_of(config, name):
        pairs = weight.unflatten(0, (n_head, 2, -1))  # [n_head, 2, d_head / 2, n_embd]
        weight = pairs.transpose(1, 2).reshape(weight.shape)
    return weight
