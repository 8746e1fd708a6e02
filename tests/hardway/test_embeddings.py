"""Embedding lookup and nearest neighbours against torch and a plain loop."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from hardway.embeddings import embed, nearest
from refusals import refuses
from tensors import randn


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    n_vocab=st.integers(1, 20),
    n_ctx=st.integers(1, 10),
    n_embd=st.integers(1, 8),
    batch=st.integers(0, 3),  # 0: a single sequence, without the batch's axis
    data=st.data(),
)
def test_embed_equals_torch(
    n_vocab: int,
    n_ctx: int,
    n_embd: int,
    batch: int,
    data: st.DataObject,
    dtype: torch.dtype,
) -> None:
    length = data.draw(st.integers(1, n_ctx))
    start = data.draw(st.integers(0, n_ctx - length))
    seed = data.draw(st.integers(0, 99))
    shape = (batch, length) if batch else (length,)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(n_vocab, shape, generator=generator)
    positions = torch.arange(start, start + length)
    wte, wpe = randn(n_vocab, n_embd, dtype=dtype), randn(n_ctx, n_embd, dtype=dtype)
    found = embed(tokens, positions, wte, wpe)
    assert found.dtype == dtype
    assert torch.equal(found, F.embedding(tokens, wte) + F.embedding(positions, wpe))


def test_embed_by_hand() -> None:
    wte = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    wpe = torch.tensor([[10.0, 20.0], [30.0, 40.0], [50.0, 60.0]])
    found = embed(torch.tensor([1, 0, 1]), torch.tensor([0, 1, 2]), wte, wpe)
    assert found.tolist() == [[13.0, 24.0], [31.0, 42.0], [53.0, 64.0]]


def test_embed_with_positions_for_each_sequence() -> None:
    """A padded batch counts each sequence's positions apart."""
    wte, wpe = randn(5, 3), randn(4, 3)
    tokens, positions = torch.tensor([[0, 1], [2, 3]]), torch.tensor([[0, 1], [0, 0]])
    found = embed(tokens, positions, wte, wpe)
    for b, t in itertools.product(range(2), range(2)):
        by_hand = wte[int(tokens[b, t])] + wpe[int(positions[b, t])]
        assert torch.equal(found[b, t], by_hand)


@given(
    n=st.integers(2, 12), d=st.integers(1, 6), seed=st.integers(0, 999), data=st.data()
)
def test_nearest_equals_a_loop(n: int, d: int, seed: int, data: st.DataObject) -> None:
    index, k = data.draw(st.integers(0, n - 1)), data.draw(st.integers(1, n - 1))
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n, d, generator=generator, dtype=torch.float64)
    original = vectors.clone()
    indices, cosines = nearest(vectors, index, k)
    expected = {
        i: float(F.cosine_similarity(vectors[i], vectors[index], dim=0))
        for i in range(n)
        if i != index
    }
    best = sorted(expected.values(), reverse=True)[:k]
    assert cosines == pytest.approx(best)
    assert [expected[i] for i in indices] == pytest.approx(best)
    assert len(set(indices)) == k
    assert torch.equal(vectors, original)  # the caller's vectors are left alone


def test_nearest_by_hand() -> None:
    """Direction counts, not length."""
    vectors = torch.tensor([[1.0, 0.0], [0.0, 9.0], [100.0, 1.0], [-1.0, 0.0]])
    indices, cosines = nearest(vectors, 0, 3)
    assert indices == [2, 1, 3]
    assert cosines == pytest.approx([0.99995, 0.0, -1.0], abs=1e-5)


@pytest.mark.parametrize("k", [0, 3, -1, 1.0, True])
def test_nearest_has_as_many_rows_to_choose_from(k: Any) -> None:
    with refuses("k"):
        nearest(torch.eye(3), 0, k)
