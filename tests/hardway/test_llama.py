"""Llama against transformers and torch: parts, logits, caches, files, refusals."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import (
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)

import hardway
from hardway import GPT2, Llama, generate, generate_batch
from hardway.attention import attention, causal_mask
from hardway.checkpoint import expected_shapes
from hardway.config import LlamaConfig
from hardway.fast import FastLlama
from hardway.llama import (
    checkpoint_name,
    from_gguf,
    grouped_attention,
    rms_norm,
    rope,
    rope_angles,
    silu,
    swiglu,
    unpermute,
)
from llamas import (
    CONFIGS,
    SMALL,
    as_gguf,
    as_transformers,
    random_llama,
    save_llama,
)
from references import assert_same_logits, random_tokens
from refusals import refuses, refuses_file
from tensors import assert_close, randn

FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
EACH_CONFIG = pytest.mark.parametrize("config", CONFIGS, ids=str)
KINDS = pytest.mark.parametrize("kind", [Llama, FastLlama])


def expected_logits(model: Llama, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = as_transformers(model)(
            tokens if tokens.dim() == 2 else tokens[None]
        ).logits
    return logits if tokens.dim() == 2 else logits[0]


# --- the parts ---


@FLOATS
@pytest.mark.parametrize("shape", [(5,), (3, 8), (2, 3, 24)])
@pytest.mark.parametrize("epsilon", [1e-6, 1e-2])
def test_rms_norm_equals_torch(
    shape: tuple[int, ...], epsilon: float, dtype: torch.dtype
) -> None:
    x, weight = randn(*shape, dtype=dtype), randn(shape[-1], dtype=dtype, seed=1)
    expected = F.rms_norm(x, shape[-1:], weight, epsilon)
    assert_close(rms_norm(x, weight, epsilon), expected)
    assert torch.equal(rms_norm(torch.zeros(3), torch.ones(3), 1e-5), torch.zeros(3))


@FLOATS
def test_silu_and_swiglu_equal_torch(dtype: torch.dtype) -> None:
    x = 5 * randn(4, 6, dtype=dtype)
    assert_close(silu(x), F.silu(x))
    gate, up, down = (
        randn(*shape, dtype=dtype, seed=seed)
        for seed, shape in enumerate([(6, 9), (6, 9), (9, 6)])
    )
    mlp = {
        "gate_proj": {"weight": gate},
        "up_proj": {"weight": up},
        "down_proj": {"weight": down},
    }
    expected = F.linear(F.silu(F.linear(x, gate.T)) * F.linear(x, up.T), down.T)
    assert_close(swiglu(x, mlp), expected, factor=100)


def test_silu_of_large_numbers_is_finite() -> None:
    x = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4])
    assert_close(silu(x), torch.tensor([0.0, 0.0, 0.0, 100.0, 1e4]))


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[3]], ids=str)
def test_rope_equals_transformers(config: LlamaConfig) -> None:
    rotary = as_transformers(random_llama(config)).model.rotary_emb
    assert isinstance(rotary, LlamaRotaryEmbedding)
    positions = torch.tensor([[0, 1, 2, 7, 31], [3, 4, 5, 6, 49]])
    q = randn(2, config.n_head, 5, config.d_head)
    k = randn(2, config.n_kv_head, 5, config.d_head, seed=1)
    expected = apply_rotary_pos_emb(q, k, *rotary(q, positions))
    angles = rope_angles(positions, config.d_head, config.rope_theta)
    assert angles.shape == (2, 1, 5, config.d_head // 2)
    assert_close(rope(q, angles), expected[0])
    assert_close(rope(k, angles), expected[1])
    first = rope_angles(positions[0], config.d_head, config.rope_theta)
    assert_close(rope(q[0], first), expected[0][0])


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 2000))
def test_scores_depend_on_the_distance_alone(m: int, n: int, shift: int) -> None:
    q, k = randn(8, dtype=torch.float64), randn(8, dtype=torch.float64, seed=1)

    def score(m: int, n: int) -> Tensor:
        angles = rope_angles(torch.tensor([m, n]), 8, 10000.0).double()
        return rope(q, angles[0]) @ rope(k, angles[1])

    # The angles are rounded to float32: at position 4,000 to some 2e-4.
    torch.testing.assert_close(
        score(m, n), score(m + shift, n + shift), atol=1e-2, rtol=0
    )


def test_rope_keeps_lengths() -> None:
    x = randn(3, 10, 16)
    rotated = rope(x, rope_angles(torch.arange(10), 16, 10000.0))
    assert_close(rotated.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(rotated[:, 0], x[:, 0])
    assert not torch.allclose(rotated[:, 1], x[:, 1])


@FLOATS
@pytest.mark.parametrize(("n_head", "n_kv_head"), [(6, 2), (4, 4), (5, 1)])
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize(("n", "past"), [(1, 0), (4, 0), (1, 6), (3, 5)])
def test_grouped_attention_repeats_no_key_and_equals_repeating(
    n_head: int, n_kv_head: int, batch: tuple[int, ...], n: int, past: int,
    dtype: torch.dtype,
) -> None:  # fmt: skip
    q = randn(*batch, n_head, n, 8, dtype=dtype)
    k = randn(*batch, n_kv_head, n + past, 8, dtype=dtype, seed=1)
    v = randn(*batch, n_kv_head, n + past, 8, dtype=dtype, seed=2)
    mask = causal_mask(n, n + past)
    group = n_head // n_kv_head
    repeated = (x.repeat_interleave(group, dim=-3) for x in (k, v))
    expected = attention(q, *repeated, mask)
    found = grouped_attention(q, k, v, mask)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other)
    padded = mask.expand(*batch, 1, n, n + past)
    for one, other in zip(grouped_attention(q, k, v, padded), expected, strict=True):
        assert_close(one, other)


# --- the model ---


@KINDS
@EACH_CONFIG
def test_logits_equal_transformers(
    tmp_path: Path, config: LlamaConfig, kind: type[Llama]
) -> None:
    original = random_llama(config)
    save_llama(tmp_path, original)
    model = kind.from_pretrained(tmp_path)
    assert model.config == config
    assert list(model.weights) == list(expected_shapes(config))
    assert len(model.weights) == 9 * config.n_layer + 2 + (not config.tied)
    for shape in [(1,), (config.n_ctx,), (3, config.n_ctx - 1)]:
        tokens = random_tokens(config, *shape)
        expected = expected_logits(original, tokens)
        assert_same_logits(model(tokens), expected)
        last = model(tokens, last_only=True)
        assert_same_logits(last, expected[..., -1:, :])


@EACH_CONFIG
def test_the_checkpoint_that_transformers_saves(
    tmp_path: Path, config: LlamaConfig
) -> None:
    model = random_llama(config)
    as_transformers(model).save_pretrained(tmp_path)
    loaded = Llama.from_pretrained(tmp_path)
    assert loaded.config == config
    tokens = random_tokens(config, 9)
    assert_same_logits(loaded(tokens), model(tokens), tolerance=1e-5)


@KINDS
def test_float64_is_computed_in_float64(kind: type[Llama]) -> None:
    model = random_llama(dtype=torch.float64)
    tokens = random_tokens(SMALL, 2, 20)
    found = kind(model.config, model.weights)(tokens)
    # Angles are float32 in both.
    assert_same_logits(found, expected_logits(model, tokens).float(), tolerance=1e-6)


@KINDS
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.005)], ids=str
)
def test_half_precision_is_close(
    tmp_path: Path, kind: type[Llama], dtype: torch.dtype, tolerance: float
) -> None:
    exact = random_llama()
    save_llama(tmp_path, exact)
    half = kind.from_pretrained(tmp_path, dtype)
    assert {tensor.dtype for tensor in half.weights.values()} == {dtype}
    tokens = random_tokens(SMALL, 20)
    assert_same_logits(half(tokens), exact(tokens), tolerance)
    assert half.new_cache().keys.dtype == torch.float32


@KINDS
@EACH_CONFIG
def test_cached_equals_uncached(kind: type[Llama], config: LlamaConfig) -> None:
    taught = random_llama(config)
    model, tokens = kind(config, taught.weights), random_tokens(config, 2, 20)
    expected = taught(tokens)
    for cuts in ([20], [1] * 20, [7, 1, 5, 1, 6]):
        cache = model.new_cache(2)
        assert cache.keys.shape[2] == config.n_kv_head
        parts = [model(part, cache) for part in tokens.split(cuts, dim=1)]
        assert_same_logits(torch.cat(parts, dim=1), expected)


@KINDS
@EACH_CONFIG
def test_generation_with_and_without_cache_alone_and_in_a_batch(
    kind: type[Llama], config: LlamaConfig
) -> None:
    model = kind(config, random_llama(config).weights)
    prompts = [random_tokens(config, n, seed=n).tolist() for n in (1, 5, 9)]
    alone = [generate(model, prompt, 10, use_cache=False) for prompt in prompts]
    assert [generate(model, prompt, 10) for prompt in prompts] == alone
    assert generate_batch(model, prompts, 10) == alone


@EACH_CONFIG
def test_trace_is_the_pass_itself(config: LlamaConfig) -> None:
    model, tokens = random_llama(config), random_tokens(config, 8)
    trace = model.trace(tokens)
    assert trace.residual.shape == (config.n_layer + 1, 8, config.n_embd)
    assert trace.attention.shape == (config.n_layer, config.n_head, 8, 8)
    assert torch.equal(trace.logits, model(tokens))
    with torch.no_grad():
        theirs = as_transformers(model)(tokens[None], output_attentions=True)
    for ours, expected in zip(trace.attention, theirs.attentions, strict=True):
        assert_close(ours, expected[0])


def test_two_sequences_in_one_ragged_run() -> None:
    """What a scheduler does: no padding, and attention per sequence."""
    taught = random_llama()
    model = FastLlama(SMALL, taught.weights)
    texts = [random_tokens(SMALL, n, seed=n) for n in (3, 7)]

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = [
            grouped_attention(
                *(x.transpose(0, 1) for x in qkv), mask=causal_mask(n, n)
            )[0].transpose(0, 1)
            for n, *qkv in zip(
                (3, 7), *(x.split([3, 7]) for x in (q, k, v)), strict=True
            )
        ]
        return torch.cat(parts)

    positions = torch.cat([torch.arange(3), torch.arange(7)])
    logits = model.forward(torch.cat(texts), positions, attend)
    assert_same_logits(logits, torch.cat([taught(text) for text in texts]))
    some = model.forward(torch.cat(texts), positions, attend, torch.tensor([2, 9]))
    assert_same_logits(some, logits[[2, 9]])


def test_the_fused_matrices_are_the_weights_themselves() -> None:
    """No byte is held twice."""
    model = FastLlama(SMALL, random_llama().weights)
    whole = model.blocks[1]["self_attn"]["qkv"]["weight"]
    part = model.weights["layers.1.self_attn.k_proj.weight"]
    assert part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()


def test_load_finds_the_family(tmp_path: Path) -> None:
    save_llama(tmp_path, random_llama())
    model = hardway.load(tmp_path)
    assert isinstance(model, FastLlama)
    assert isinstance(hardway.load("pocket"), GPT2)
    tokens = random_tokens(SMALL, 6)
    assert_same_logits(model(tokens), random_llama()(tokens))


def test_the_model_moves_to_another_device() -> None:
    model = random_llama().to("meta")
    assert model.device.type == "meta"
    assert model(torch.zeros(4, dtype=torch.int64, device="meta")).shape == (4, 97)


# --- files ---


def test_names_of_a_gguf() -> None:
    assert checkpoint_name("token_embd.weight") == "embed_tokens.weight"
    assert checkpoint_name("output_norm.weight") == "norm.weight"
    assert checkpoint_name("blk.12.ffn_down.weight") == "layers.12.mlp.down_proj.weight"
    for unknown in ("", "x", "rope_freqs.weight", "blk.0.attn_q_norm.weight"):
        assert checkpoint_name(unknown) == unknown


@EACH_CONFIG
def test_a_gguf_holds_the_same_model_in_another_order(config: LlamaConfig) -> None:
    model = random_llama(config)
    clean = from_gguf(config, as_gguf(model))
    assert clean.keys() == model.weights.keys()
    for name, tensor in model.weights.items():
        assert torch.equal(clean[name], tensor), name


def test_rows_left_in_llama_cpps_order_give_another_text() -> None:
    """It fails in silence: every shape fits."""
    model = random_llama()
    wrong = dict(model.weights)
    for name in wrong:
        if "q_proj" in name or "k_proj" in name:
            wrong[name] = unpermute(wrong[name].T, 2).T
    tokens = random_tokens(SMALL, 12)
    assert not torch.allclose(Llama(SMALL, wrong)(tokens), model(tokens), atol=1e-2)


def test_a_head_stored_twice_and_old_constants(tmp_path: Path) -> None:
    model = random_llama()
    path = save_llama(tmp_path, model)
    stored = load_file(path)
    extra = {
        "lm_head.weight": stored["model.embed_tokens.weight"].clone(),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2),
    }
    save_file(stored | extra, path)
    loaded = Llama.from_pretrained(tmp_path)
    assert loaded.weights.keys() == model.weights.keys()
    extra["lm_head.weight"][0, 0] += 1
    save_file(stored | extra, path)
    with refuses_file(path, "lm_head.weight"):
        Llama.from_pretrained(tmp_path)
    del stored["model.embed_tokens.weight"]  # then the head is both
    save_file(stored | extra, path)
    embeddings = Llama.from_pretrained(tmp_path).weights["embed_tokens.weight"]
    assert torch.equal(embeddings, extra["lm_head.weight"])


def test_tensors_of_another_model_are_refused(tmp_path: Path) -> None:
    path = save_llama(tmp_path, random_llama())
    stored = load_file(path)
    norm = "model.layers.1.input_layernorm.weight"
    for entry, tensors in {
        "layers.1.input_layernorm.weight": {
            k: v for k, v in stored.items() if k != norm
        },
        "layers.0.self_attn.q_proj.bias": stored
        | {"model.layers.0.self_attn.q_proj.bias": torch.ones(24)},
        "norm.weight": stored | {"model.norm.weight": torch.ones(23)},
        "embed_tokens.weight": stored
        | {"model.embed_tokens.weight": torch.full((97, 24), torch.nan)},
        "'model.'": stored | {"norm.weight": torch.ones(24)},
    }.items():
        save_file(tensors, path)
        with refuses_file(path, entry):
            Llama.from_pretrained(tmp_path)


UNKNOWN: list[tuple[str, Any]] = [
    ("rope_type", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}),
    ("rope_type", {"rope_scaling": {"type": "linear", "factor": 2.0}}),
    ("rope_type", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}),
    ("rope_parameters", {"rope_parameters": [1]}),
    ("hidden_act", {"hidden_act": "gelu"}),
    ("attention_bias", {"attention_bias": True}),
    ("mlp_bias", {"mlp_bias": True}),
    ("sliding_window", {"sliding_window": 4096}),
    ("partial_rotary_factor", {"partial_rotary_factor": 0.5}),
    ("quantization_config", {"quantization_config": {"bits": 4}}),
    ("tie_word_embeddings", {"tie_word_embeddings": "yes"}),
    ("hidden_size", {"hidden_size": 25, "head_dim": None}),
    ("vocab_size", {"vocab_size": None}),
    ("n_head", {"num_key_value_heads": 4}),
    ("d_head", {"head_dim": 3}),
    ("n_layer", {"num_hidden_layers": 10**9}),
    ("rope_theta", {"rope_theta": float("nan")}),
    ("rms_norm_eps", {"rms_norm_eps": 0}),
]


@pytest.mark.parametrize(("entry", "changes"), UNKNOWN, ids=str)
def test_a_variant_that_is_not_implemented_is_refused_by_name(
    tmp_path: Path, entry: str, changes: dict[str, Any]
) -> None:
    save_llama(tmp_path, random_llama(), **changes)
    with refuses_file(tmp_path / "config.json", entry):
        Llama.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", ["mistral", "qwen3", 3])
def test_another_architecture_is_refused_by_name(tmp_path: Path, kind: object) -> None:
    save_llama(tmp_path, random_llama(), model_type=kind)
    for load in (hardway.load, Llama.from_pretrained):
        with refuses_file(tmp_path / "config.json", "model_type"):
            load(tmp_path)


def test_what_a_config_may_leave_out(tmp_path: Path) -> None:
    sizes = asdict(SMALL) | {"n_kv_head": 6, "tied": False, "rms_norm_eps": 1e-6}
    model = random_llama(LlamaConfig(**sizes))
    save_llama(tmp_path, model)
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    for name in ("num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta",
                 "tie_word_embeddings"):  # fmt: skip
        del raw[name]
    path.write_text(json.dumps(raw))
    assert LlamaConfig.from_file(path) == model.config


GGUF = {
    "general.architecture": "llama",
    "llama.vocab_size": 97,
    "llama.context_length": 32,
    "llama.embedding_length": 24,
    "llama.attention.head_count": 6,
    "llama.attention.head_count_kv": 2,
    "llama.block_count": 2,
    "llama.feed_forward_length": 40,
    "llama.attention.layer_norm_rms_epsilon": 1e-6,
    "llama.rope.dimension_count": 4,
}


def test_the_sizes_in_a_gguf() -> None:
    assert LlamaConfig.from_gguf(GGUF, tied=True) == SMALL
    counted = {k: v for k, v in GGUF.items() if k != "llama.vocab_size"}
    counted["tokenizer.ggml.tokens"] = ["a"] * 97
    assert LlamaConfig.from_gguf(counted, tied=True) == SMALL


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("general.architecture", "qwen2"),
        ("llama.rope.scaling.type", "yarn"),
        ("llama.rope.scaling.factor", 4.0),
        ("llama.rope.scale_linear", 0.5),
        ("llama.rope.dimension_count", 2),
        ("llama.expert_count", 8),
        ("llama.context_length", None),
        ("llama.attention.head_count", [6, 6]),
    ],
)
def test_a_gguf_that_is_not_implemented_is_refused_by_name(
    key: str, value: object
) -> None:
    with refuses(key):
        LlamaConfig.from_gguf(GGUF | {key: value}, tied=True)


@pytest.mark.parametrize("tokens", [5, "ab", None, True])
def test_tokens_that_cannot_be_counted(tokens: object) -> None:
    rest = {k: v for k, v in GGUF.items() if k != "llama.vocab_size"}
    with refuses("llama.vocab_size"):
        LlamaConfig.from_gguf(rest | {"tokenizer.ggml.tokens": tokens}, tied=True)
