"""The smallest complete language model, with random weights.

GPT-2's tokenizer is real; everything after it is as small as it can be: one attention
head, one feed-forward layer, no positions, no training. What it says is nonsense. How
it says it is not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hardway import checks
from hardway.tokenizer import Tokenizer

N_EMBD = 8  # numbers per token
N_HIDDEN = 16  # numbers inside the feed-forward layer
STEPS = {  # what `demo` prints of a `Decode`, in this order
    "embedding": "Embedding for last token",
    "q": "Q for last token",
    "scores": "Attention scores",
    "attn_weights": "Attention weights",
    "output": "Attention output",
    "logits": "Logits",
    "probabilities": "Probabilities",
}


@dataclass(frozen=True)
class Weights:
    """The seven matrices of the machine."""

    embedding: Tensor  # [n_vocab, 8]
    w_q: Tensor  # [8, 8]
    w_k: Tensor  # [8, 8]
    w_v: Tensor  # [8, 8]
    w_up: Tensor  # [8, 16]
    w_down: Tensor  # [16, 8]
    w_out: Tensor  # [8, n_vocab]


@dataclass(frozen=True)
class Prefill:
    """What prefill computes for T tokens; ``k`` and ``v`` are kept for later."""

    embeddings: Tensor  # [T, 8]
    q: Tensor  # [T, 8]
    k: Tensor  # [T, 8]
    v: Tensor  # [T, 8]


@dataclass(frozen=True)
class Decode:
    """What choosing the next token computes."""

    embedding: Tensor  # [8]
    q: Tensor  # [8]
    scores: Tensor  # [T]
    attn_weights: Tensor  # [T]
    output: Tensor  # [8]
    logits: Tensor  # [n_vocab]
    probabilities: Tensor  # [n_vocab]
    token: int


def random_weights(n_vocab: int, seed: int = 0) -> Weights:
    """Draw all weights at random; the same seed gives the same weights."""
    generator = torch.Generator().manual_seed(seed)

    def matrix(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=generator) / math.sqrt(rows)

    return Weights(
        embedding=matrix(n_vocab, N_EMBD) * math.sqrt(n_vocab),
        w_q=matrix(N_EMBD, N_EMBD),
        w_k=matrix(N_EMBD, N_EMBD),
        w_v=matrix(N_EMBD, N_EMBD),
        w_up=matrix(N_EMBD, N_HIDDEN),
        w_down=matrix(N_HIDDEN, N_EMBD),
        w_out=matrix(N_EMBD, n_vocab),
    )


def prefill(weights: Weights, tokens: Sequence[int]) -> Prefill:
    """Prefill: give each token of the prompt its embedding, query, key and value."""
    embeddings = weights.embedding[list(tokens)]  # [T, 8]
    return Prefill(
        embeddings,
        q=embeddings @ weights.w_q,
        k=embeddings @ weights.w_k,
        v=embeddings @ weights.w_v,
    )


def decode(weights: Weights, token: int, k: Tensor, v: Tensor, seed: int = 0) -> Decode:
    """Decode: attend from the last token to all stored keys, and sample the next one.

    token: the last id; k, v: [T, 8], from `prefill`. The same seed gives the same draw.
    """
    embedding = weights.embedding[token]  # [8]
    q = embedding @ weights.w_q  # [8]
    scores = k @ q / math.sqrt(N_EMBD)  # [T]: one dot product per key
    attn_weights = torch.softmax(scores, dim=-1)  # [T]
    output = attn_weights @ v  # [8]
    hidden = torch.relu(output @ weights.w_up)  # [16]
    logits = hidden @ weights.w_down @ weights.w_out  # [n_vocab]
    probabilities = torch.softmax(logits, dim=-1)
    generator = torch.Generator().manual_seed(seed)
    chosen = int(torch.multinomial(probabilities, 1, generator=generator))
    return Decode(
        embedding, q, scores, attn_weights, output, logits, probabilities, chosen
    )


def demo(text: str, seed: int = 0) -> None:
    """Run the whole machine on ``text`` and print every step.

    Raises `ValueError` for an empty text.
    """
    tokenizer = Tokenizer.from_pretrained("pocket")
    tokens = tokenizer.encode(checks.not_empty("text", text))
    weights = random_weights(tokenizer.n_vocab, seed)
    read = prefill(weights, tokens)
    print(f"Input token indices: {tokens}")
    print(f"Input tokens: {[tokenizer.decode([token]) for token in tokens]}")
    for label, matrix in [
        ("Embeddings", read.embeddings), ("Q", read.q), ("K", read.k), ("V", read.v)
    ]:  # fmt: skip
        print(f"{label}:\n{rounded(matrix)}")
    print("\n--- Decoding next token ---")
    step = decode(weights, tokens[-1], read.k, read.v, seed)
    for name, label in STEPS.items():
        print(f"[Decode] {label}: {rounded(getattr(step, name))}")
    chosen = tokenizer.decode([step.token])
    print(f"Predicted next token: {chosen!r} (token {step.token})")


def rounded(tensor: Tensor) -> str:
    """Write a matrix row by row, a vector on one line, to three digits."""
    if tensor.dim() == 2:
        return "\n".join(f"  {rounded(row)}" for row in tensor)
    if len(tensor) > N_HIDDEN:
        shown = " ".join(f"{number:.3g}" for number in tensor[:3].tolist())
        return f"[{shown} ... {tensor[-1].item():.3g}] ({len(tensor)} numbers)"
    return "[" + " ".join(f"{number:6.3f}" for number in tensor.tolist()) + "]"
