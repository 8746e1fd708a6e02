"""GPT-2 in few large steps."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Self

import torch
from torch import Tensor

from hardway import checkpoint, inputs
from hardway.attention import Weights
from hardway.config import Config
from hardway.fast.linear import is_matrix, layer_norm, linear, pack_weight
from hardway.fast.packed import (
    Packed,
    Rows,
    as_float,
    quantize_head,
    quantize_matrix,
    quantize_table,
)
from hardway.fast.ragged import Attend, Ragged
from hardway.model import GPT2, Trace


class FastGPT2(Ragged, GPT2):
    """`hardway.model.GPT2` with fused kernels; the same results within rounding."""

    def __init__(self, config: Config, weights: Mapping[str, Tensor]) -> None:
        """Take the same weights, and lay them out as the matrix products read them."""
        checked = checkpoint.check_weights(config, weights)
        packed = {name: pack_weight(name, weight) for name, weight in checked.items()}
        super().__init__(config, packed)
        self.table: Tensor | Rows = self.wte  # read by rows
        self.head: Tensor | Packed = self.wte.T  # read whole

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attend: Attend,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Run N tokens of any sequences; see `hardway.fast.ragged.Ragged.forward`."""
        x = (self.table[tokens] + self.wpe[positions]).to(self.compute_dtype)
        n_head, epsilon = self.config.n_head, self.config.layer_norm_epsilon
        for layer, block in enumerate(self.blocks):
            wanted = rows if layer == self.config.n_layer - 1 else None
            x = transformer_block(
                x, block, n_head, epsilon, partial(attend, layer), wanted
            )
        x = layer_norm(x, **self.ln_f, epsilon=epsilon)
        return linear(x, self.head).float()


class QuantizedGPT2(FastGPT2):
    """A `FastGPT2` whose matrices take 16, 8 or 4 bits a number.

    ``packed`` holds them by their names, the embeddings of tokens included; ``weights``
    the rest in float32: embeddings of positions, norms and biases. Products round their
    vectors to bfloat16. The residual stream, attention and the cache are float32.
    """

    def __init__(
        self, config: Config, weights: Mapping[str, Tensor], kind: str
    ) -> None:
        """Quantize float32 weights on a CPU; kind: one of ``packed.KINDS``.

        Raises `ValueError` for 4 bits where n_embd is not a multiple of 32.
        """
        super().__init__(config, weights)
        matrices = [
            name for name, weight in self.weights.items() if is_matrix(name, weight)
        ]
        self.packed: dict[str, Tensor | Packed] = {
            name: quantize_matrix(self.weights.pop(name).T, kind) for name in matrices
        }
        self.blocks = list(checkpoint.nest(self.weights | self.packed)["h"].values())
        table = self.weights.pop("wte.weight")
        self.table = quantize_table(table, kind)
        self.head = quantize_head(table, self.table, kind)
        self.packed["wte.weight"] = self.table
        del self.wte

    def dequantize(self) -> GPT2:
        """Return the taught model with what the codes stand for, in float32."""
        matrices = {name: as_float(weight) for name, weight in self.packed.items()}
        if not isinstance(self.table, Tensor):
            matrices["wte.weight"] = matrices["wte.weight"].T
        return GPT2(self.config, self.weights | matrices)

    def trace(self, tokens: Tensor) -> Trace:
        """Run one sequence, int64 [T], through the dequantized model, in float32."""
        return self.dequantize().trace(tokens)

    def logits(self, x: Tensor) -> Tensor:
        """Like `hardway.model.GPT2.logits`, with the quantized head."""
        x = layer_norm(x, **self.ln_f, epsilon=self.config.layer_norm_epsilon)
        return linear(x, self.head).float()

    def to(self, device: torch.device | str) -> Self:
        """Return the model itself for a CPU: the packed products run nowhere else."""
        inputs.check_cpu(device)
        return self


def transformer_block(
    x: Tensor,
    block: Weights,
    n_head: int,
    epsilon: float,
    attend: Callable[[Tensor, Tensor, Tensor], Tensor],
    rows: Tensor | None = None,
) -> Tensor:
    """Like `hardway.block.transformer_block`, for the tokens in ``rows``.

    x: [N, n_embd] → [len(rows), n_embd]; attend: q, k, v [N, n_head, d_head] → the same
    shape. Every token's key and value are computed, whatever ``rows`` says.
    """
    qkv = linear(
        layer_norm(x, **block["ln_1"], epsilon=epsilon), **block["attn"]["c_attn"]
    )
    q, k, v = qkv.view(len(x), 3, n_head, -1).unbind(1)
    mixed = attend(q, k, v).flatten(1)  # [N, n_embd]
    if rows is not None:
        x, mixed = x[rows], mixed[rows]
    x = x + linear(mixed, **block["attn"]["c_proj"])
    normed = layer_norm(x, **block["ln_2"], epsilon=epsilon)
    hidden = linear(normed, **block["mlp"]["c_fc"], gelu=True)
    return x + linear(hidden, **block["mlp"]["c_proj"])
