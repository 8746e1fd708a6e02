"""GPT-2 in few large steps."""

from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from hardway import checkpoint
from hardway.attention import Weights
from hardway.config import Config
from hardway.embeddings import embed
from hardway.fast.linear import layer_norm, linear, pack_weight
from hardway.fast.ragged import Attend, Ragged
from hardway.model import GPT2


class FastGPT2(Ragged, GPT2):
    """`hardway.model.GPT2` with fused kernels; the same results within rounding."""

    def __init__(self, config: Config, weights: Mapping[str, Tensor]) -> None:
        """Take the same weights, and lay them out as the matrix products read them."""
        checked = checkpoint.check_weights(config, weights)
        packed = {name: pack_weight(name, weight) for name, weight in checked.items()}
        super().__init__(config, packed)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attend: Attend,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Run N tokens of any sequences; see `hardway.fast.ragged.Ragged.forward`."""
        x = embed(tokens, positions, self.wte, self.wpe).to(self.compute_dtype)
        n_head, epsilon = self.config.n_head, self.config.layer_norm_epsilon
        for layer, block in enumerate(self.blocks):
            wanted = rows if layer == self.config.n_layer - 1 else None
            x = transformer_block(
                x, block, n_head, epsilon, partial(attend, layer), wanted
            )
        x = layer_norm(x, **self.ln_f, epsilon=epsilon)
        return linear(x, self.wte.T).float()


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
