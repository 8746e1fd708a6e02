"""SmolLM2 from its own file: golden ids, logits and surprisals."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import hardway
from hardway import Llama, generate, gguf, hub
from hardway.fast import FastLlama
from hardway.fast.quantized_llama import QuantizedLlama
from hardway.quantization import dequantize, least_squares, quantize
from llamas import as_transformers
from references import assert_same_logits, random_tokens


def file() -> Path | None:
    try:
        return hub.weights("smollm2")
    except FileNotFoundError:
        return None


pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("smollm2"),
    pytest.mark.skipif(
        file() is None,
        reason="SmolLM2 is not in $HARDWAY_HOME: `hardway download smollm2` fetches it",
    ),
]

# Greedy continuations by an independent float32 implementation in numpy; llama.cpp
# gives the same ids.
GREEDY = {
    "Once upon a time": (
        [6403, 1980, 253, 655],
        [28, 260, 2240, 282, 23324, 27108, 436, 253, 15114, 39228, 28, 351, 25854,
         41658, 284, 14055, 9018, 30, 1249, 347, 260, 929, 3514, 411],
    ),
    "She walked into the": (
        [8113, 13197, 618, 260],
        [3589, 28, 284, 339, 436, 11869, 288, 963, 874, 30, 2306, 436, 253, 3953, 4166,
         28, 351, 253, 13536, 338, 856, 1420, 614, 253],
    ),
    "chat: What is 2+2?": (
        [1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308, 34519, 28,
         7018, 411, 407, 19712, 8182, 2, 198, 1, 4093, 198, 1780, 314, 216, 34,
         27, 34, 47, 2, 198, 1, 520, 9531, 198],
        [504, 2988, 288, 451, 8170, 4119, 1732, 314, 216, 36, 30],
    ),
}  # fmt: skip
# "Four score and seven years ago … can long endure.", two sentences.
GETTYSBURG = [
    19622, 6581, 284, 4962, 929, 3156, 653, 16576, 3621, 7146, 335, 451, 10904, 28, 253,
    725, 3442, 28, 19250, 281, 20577, 28, 284, 5636, 288, 260, 20723, 338, 511, 1800,
    359, 2312, 4037, 30, 3569, 392, 359, 6934, 281, 253, 1109, 3181, 1913, 28, 3728,
    1991, 338, 3442, 28, 355, 750, 3442, 588, 19250, 284, 588, 5636, 28, 416, 986,
    21550, 30,
]  # fmt: skip


@pytest.fixture(scope="module")
def taught() -> Llama:
    return Llama.from_pretrained("smollm2")


@pytest.fixture(scope="module")
def fast(taught: Llama) -> FastLlama:
    return FastLlama(taught.config, taught.weights)


@pytest.mark.parametrize("prompt", GREEDY)
def test_greedy_ids(taught: Llama, fast: FastLlama, prompt: str) -> None:
    ids, expected = GREEDY[prompt]
    n = len(expected) + 1
    stop = (2,)
    assert generate(taught, ids, n, stop_ids=stop)[: n - 1] == expected
    assert generate(fast, ids, n, stop_ids=stop)[: n - 1] == expected


def test_the_five_likeliest(taught: Llama, fast: FastLlama) -> None:
    """After "The capital of France is"."""
    ids = torch.tensor([504, 3575, 282, 4649, 314])
    for model in (taught, fast):
        values, found = model(ids, last_only=True)[-1].topk(5)
        assert found.tolist() == [7042, 260, 4528, 2250, 1315]
        expected = torch.tensor([17.3713, 14.8886, 13.2450, 13.0095, 12.9515])
        torch.testing.assert_close(values, expected, atol=1e-3, rtol=0)


def test_the_surprisal_of_a_speech(taught: Llama, fast: FastLlama) -> None:
    ids = torch.tensor(GETTYSBURG)
    for model in (taught, fast):
        logits = model(ids)
        assert abs(float(F.cross_entropy(logits[:-1], ids[1:])) - 2.5967657) < 1e-4
        values, found = logits[-1].topk(5)
        assert found.tolist() == [198, 378, 1046, 1350, 657]
        expected = torch.tensor([10.8656, 10.7465, 10.6565, 10.4859, 10.2559])
        torch.testing.assert_close(values, expected, atol=1e-3, rtol=0)


def test_logits_equal_transformers(taught: Llama) -> None:
    reference = as_transformers(taught)
    tokens = random_tokens(taught.config, 2, 50)
    with torch.no_grad():
        expected = reference(tokens).logits
    assert_same_logits(taught(tokens), expected)


def test_the_fast_model_equals_the_taught_one(taught: Llama, fast: FastLlama) -> None:
    tokens = random_tokens(taught.config, 2, 50)
    expected = taught(tokens)
    assert_same_logits(fast(tokens), expected)
    cache = fast.new_cache(2, 50)
    parts = [fast(part, cache) for part in tokens.split([30, 1, 19], dim=1)]
    assert_same_logits(torch.cat(parts, dim=1), expected)


def test_the_sizes(taught: Llama) -> None:
    config = taught.config
    assert sum(tensor.numel() for tensor in taught.weights.values()) == 134_515_008
    assert (config.n_layer, config.n_embd, config.n_head, config.n_kv_head) == (
        30, 576, 9, 3,
    )  # fmt: skip
    assert (config.d_head, config.n_inner, config.n_ctx) == (64, 1536, 8192)
    assert (config.rope_theta, config.tied) == (100000.0, True)
    embedding = taught.weights["embed_tokens.weight"]
    expected = torch.tensor([0.10960388, 0.01743698, -0.0946579, 0.08220291])
    torch.testing.assert_close(embedding[504, :4], expected)


# --- in the file's own codes ---


@pytest.fixture(scope="module")
def coded() -> QuantizedLlama:
    model = hardway.load("smollm2")
    assert isinstance(model, QuantizedLlama)
    return model


def test_own_codes_come_as_near_the_exact_surprisal_as_llama_cpp(
    coded: QuantizedLlama,
) -> None:
    ids = torch.tensor(GETTYSBURG)
    found = float(F.cross_entropy(coded(ids)[:-1], ids[1:]))
    exact, llama_cpp = 2.5967657, 2.60110
    assert abs(found - exact) <= llama_cpp - exact


def test_own_codes_mostly_choose_what_the_taught_model_does(
    taught: Llama, coded: QuantizedLlama
) -> None:
    ids = torch.tensor(GETTYSBURG)
    expected, found = taught(ids), coded(ids)
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() >= 0.9
    error = (found - expected).square().mean().sqrt()
    assert error < 0.05 * expected.std()
    for prompt in ("Once upon a time", "chat: What is 2+2?"):
        prompt_ids, wanted = GREEDY[prompt]
        assert generate(coded, prompt_ids, len(wanted)) == wanted


def test_int4_by_least_squares_finds_the_files_own_codes(taught: Llama) -> None:
    """SmolLM2's "float32" is what 4-bit codes stand for."""
    path = hub.weights("smollm2")
    info = gguf.read_header(path).tensors["blk.3.ffn_up.weight"]
    own = gguf.nibbles(gguf.read_blocks(path, info)[:, 4:]).view(torch.int8) - 8
    matrix = taught.weights["layers.3.mlp.up_proj.weight"].T
    found = quantize(matrix, 4, 32, least_squares)
    same = found.codes == own.view(matrix.shape)
    assert same.float().mean() > 0.999
    error = (dequantize(found) - matrix).abs().max()
    assert error < 1e-3 * matrix.abs().max()
