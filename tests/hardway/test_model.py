"""The model against transformers, and every way it refuses a bad file or input."""

import json
import math
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from hardway import GPT2, Config, KVCache
from hardway.hub import POCKET
from hardway.model import clean_names, expected_shapes, skip_padding
from references import SMALL, as_transformers, assert_same_logits, random_model

CONFIGS = [
    Config(n_vocab=97, n_ctx=24, n_embd=24, n_head=3, n_layer=2),
    Config(n_vocab=11, n_ctx=5, n_embd=8, n_head=1, n_layer=1),
    Config(n_vocab=300, n_ctx=40, n_embd=40, n_head=8, n_layer=3),
    Config(n_vocab=64, n_ctx=16, n_embd=6, n_head=6, n_layer=5),
    Config(
        n_vocab=1001, n_ctx=64, n_embd=64, n_head=4, n_layer=4, layer_norm_epsilon=1e-3
    ),
    Config(
        n_vocab=50, n_ctx=130, n_embd=32, n_head=2, n_layer=2, layer_norm_epsilon=1e-6
    ),
]


def random_tokens(config: Config, *shape: int) -> Tensor:
    return torch.randint(
        config.n_vocab, shape, generator=torch.Generator().manual_seed(1)
    )


def transformers_logits(reference: GPT2LMHeadModel, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        logits = reference(tokens if tokens.dim() == 2 else tokens[None]).logits
    return logits if tokens.dim() == 2 else logits[0]


# --- checkpoint layouts: each saves the same model another way ---


def save_with_prefix(directory: Path, model: GPT2) -> None:
    as_transformers(model).save_pretrained(directory)


def save_bare_with_buffers(directory: Path, model: GPT2) -> None:
    """As in GPT-2's own file: no prefix, and each layer's causal mask."""
    n_ctx = model.config.n_ctx
    masks = {
        f"h.{layer}.attn.bias": torch.ones(n_ctx, n_ctx)
        .tril()
        .reshape(1, 1, n_ctx, n_ctx)
        for layer in range(model.config.n_layer)
    }
    save_file(model.weights | masks, directory / "model.safetensors")
    write_config(directory, own_names(model.config))


def save_bare_with_head(directory: Path, model: GPT2) -> None:
    head = {"lm_head.weight": model.weights["wte.weight"].clone()}
    save_file(model.weights | head, directory / "model.safetensors")
    write_config(directory, hugging_face_names(model.config))


def save_with_prefix_head_and_old_buffers(directory: Path, model: GPT2) -> None:
    tensors = {f"transformer.{name}": tensor for name, tensor in model.weights.items()}
    tensors["lm_head.weight"] = model.weights["wte.weight"].clone()
    for layer in range(model.config.n_layer):
        tensors[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, directory / "model.safetensors")
    write_config(directory, hugging_face_names(model.config))


LAYOUTS = [
    save_with_prefix,
    save_bare_with_buffers,
    save_bare_with_head,
    save_with_prefix_head_and_old_buffers,
]


def hugging_face_names(config: Config) -> dict[str, Any]:
    return {
        "vocab_size": config.n_vocab,
        "n_positions": config.n_ctx,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "n_layer": config.n_layer,
        "layer_norm_epsilon": config.layer_norm_epsilon,
    }


def own_names(config: Config) -> dict[str, Any]:
    """GPT-2's own names, as in its hparams.json."""
    names = hugging_face_names(config)
    return {
        "n_vocab": names.pop("vocab_size"),
        "n_ctx": names.pop("n_positions"),
        **names,
    }


def write_config(directory: Path, raw: object) -> Path:
    path = directory / "config.json"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw), encoding="utf-8")
    return path


# --- logits ---


@pytest.mark.parametrize("save", LAYOUTS)
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_logits_equal_transformers(
    tmp_path: Path, config: Config, save: Callable[[Path, GPT2], None]
) -> None:
    original = random_model(config)
    reference = as_transformers(original)
    save(tmp_path, original)
    model = GPT2.from_pretrained(tmp_path)
    assert model.config == config
    assert list(model.weights) == list(expected_shapes(config))
    assert len(model.weights) == 12 * config.n_layer + 4
    for shape in [(1,), (config.n_ctx,), (3, config.n_ctx - 1)]:
        tokens = random_tokens(config, *shape)
        expected = transformers_logits(reference, tokens)
        assert_same_logits(model(tokens), expected)
        last = model(tokens, last_only=True)
        assert_same_logits(last, expected[..., -1:, :])
        assert last.shape == (*shape[:-1], 1, config.n_vocab)


def test_pocket_equals_transformers(pocket: GPT2) -> None:
    reference = GPT2LMHeadModel.from_pretrained(
        POCKET, dtype=torch.float32, attn_implementation="eager"
    )
    tokens = random_tokens(pocket.config, 2, 100)
    assert_same_logits(pocket(tokens), transformers_logits(reference, tokens))


@pytest.fixture(scope="module")
def large(fullsize: Path) -> GPT2:
    return GPT2.from_pretrained(fullsize)


@pytest.mark.slow
@pytest.mark.xdist_group("fullsize")
def test_the_124m_shape_equals_transformers_and_pocket(
    large: GPT2, pocket: GPT2, fullsize: Path
) -> None:
    sizes = (50257, 1024, 768, 12, 12)
    config = large.config
    assert sizes == (
        config.n_vocab, config.n_ctx, config.n_embd, config.n_head, config.n_layer,
    )  # fmt: skip
    assert len(large.weights) == 148
    assert sum(tensor.numel() for tensor in large.weights.values()) == 124_439_808
    reference = GPT2LMHeadModel.from_pretrained(fullsize, attn_implementation="eager")
    tokens = random_tokens(pocket.config, 2, 60)
    found = large(tokens)
    assert_same_logits(found, transformers_logits(reference, tokens))
    assert_same_logits(found, pocket(tokens))


@pytest.mark.slow
@pytest.mark.xdist_group("fullsize")
def test_case_39_the_124m_shape_has_1024_positions(large: GPT2) -> None:
    cache = KVCache(large.config)
    cache.advance(1023)
    assert torch.isfinite(large(torch.tensor([0]), cache)).all()
    with pytest.raises(ValueError, match=r"1025 positions, more than .* n_ctx = 1024"):
        large(torch.tensor([0]), cache)


def test_one_sequence_is_a_batch_of_one() -> None:
    model = random_model()
    tokens = random_tokens(SMALL, 3, 7)
    batch = model(tokens)
    assert batch.shape == (3, 7, SMALL.n_vocab)
    for row, logits in zip(tokens, batch, strict=True):
        assert_same_logits(model(row), logits)
        assert model(row).shape == (7, SMALL.n_vocab)


def test_no_position_sees_a_later_one() -> None:
    model = random_model()
    tokens = random_tokens(SMALL, 10)
    changed = tokens.clone()
    changed[6:] = (changed[6:] + 1) % SMALL.n_vocab
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:6], after[:6])
    assert not torch.equal(before[6], after[6])


# --- number formats ---


def test_float64_is_computed_in_float64() -> None:
    model = random_model(dtype=torch.float64)
    tokens = random_tokens(SMALL, 2, 20)
    expected = transformers_logits(as_transformers(model), tokens)
    assert expected.dtype == torch.float64
    assert_same_logits(model(tokens), expected.float(), tolerance=2e-7)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.005)], ids=str
)
def test_half_precision_is_close_and_gives_float32_logits(
    tmp_path: Path, dtype: torch.dtype, tolerance: float
) -> None:
    exact = random_model()
    save_bare_with_buffers(tmp_path, exact)
    model = GPT2.from_pretrained(tmp_path, dtype=dtype)
    assert {tensor.dtype for tensor in model.weights.values()} == {dtype}
    tokens = random_tokens(SMALL, 2, 20)
    assert_same_logits(model(tokens), exact(tokens), tolerance)


def test_weights_of_any_format_become_the_dtype_asked_for(pocket: GPT2) -> None:
    """Pocket's file is float16."""
    assert {tensor.dtype for tensor in pocket.weights.values()} == {torch.float32}


@pytest.mark.parametrize(
    "dtype",
    [torch.int64, torch.bool, torch.uint8, torch.float8_e4m3fn, "float16", None],
    ids=str,
)
def test_a_dtype_without_fractions_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="dtype must be a floating-point type"):
        GPT2.from_pretrained("pocket", dtype=dtype)


# --- trace ---


@pytest.mark.parametrize("config", CONFIGS[:3], ids=str)
def test_trace_equals_transformers(config: Config) -> None:
    model = random_model(config)
    tokens = random_tokens(config, config.n_ctx)
    trace = model.trace(tokens)
    with torch.no_grad():
        expected = as_transformers(model)(
            tokens[None], output_hidden_states=True, output_attentions=True
        )
    n, t = config.n_layer, config.n_ctx
    assert trace.residual.shape == (n + 1, t, config.n_embd)
    assert trace.attention.shape == (n, config.n_head, t, t)
    assert_same_logits(trace.attention, torch.stack(expected.attentions)[:, 0])
    # the last hidden state that transformers returns has been through the last norm
    *hidden, last = (state[0] for state in expected.hidden_states)
    assert_same_logits(trace.residual[:-1], torch.stack(hidden))
    weight, bias = model.weights["ln_f.weight"], model.weights["ln_f.bias"]
    normed = F.layer_norm(
        trace.residual[-1], (config.n_embd,), weight, bias, config.layer_norm_epsilon
    )
    assert_same_logits(normed, last)
    assert_same_logits(trace.logits, model(tokens), tolerance=1e-6)
    assert_same_logits(model.logits(trace.residual[-1]), trace.logits, tolerance=1e-6)


def test_trace_takes_one_valid_sequence() -> None:
    model = random_model()
    with pytest.raises(
        ValueError, match=r"trace takes one sequence \[T\], not \[2, 3\]"
    ):
        model.trace(random_tokens(SMALL, 2, 3))
    with pytest.raises(ValueError, match="token ids must be from 0 to 96, not 97"):
        model.trace(torch.tensor([97]))


# --- bad input ---


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.tensor([1, 97]), "token ids must be from 0 to 96, not 97"),
        (torch.tensor([[1], [-1]]), "token ids must be from 0 to 96, not -1"),
        (torch.tensor([-1, 97]), "token ids must be from 0 to 96, not -1"),
        (
            torch.tensor([1], dtype=torch.int32),
            r"must be int64 .*, not torch.int32 of shape \[1\]",
        ),
        (torch.tensor([1.0]), r"must be int64 .*, not torch.float32 of shape \[1\]"),
        (torch.tensor([]), r"with at least one id, not torch.float32 of shape \[0\]"),
        (
            torch.zeros(0, dtype=torch.int64),
            r"with at least one id, not torch.int64 of shape \[0\]",
        ),
        (torch.zeros(2, 0, dtype=torch.int64), r"with at least one id, .*\[2, 0\]"),
        (torch.tensor(1), r"must be int64 of shape \[T\], or \[B, T\] .*\[\]"),
        (
            torch.zeros(1, 1, 1, dtype=torch.int64),
            r"must be int64 of shape \[T\], or \[B, T\]",
        ),
        (
            torch.zeros(33, dtype=torch.int64),
            "tokens .* has 33 positions, more .* n_ctx = 32",
        ),
        (
            torch.zeros(2, 33, dtype=torch.int64),
            "tokens .* has 33 positions, more .* n_ctx = 32",
        ),
    ],
)
def test_bad_tokens_are_refused(tokens: Tensor, message: str) -> None:
    model = random_model()
    with pytest.raises(ValueError, match=message):
        model(tokens)
    with pytest.raises(ValueError, match=message):
        model(tokens, KVCache(SMALL, batch_size=2))


@pytest.mark.parametrize("tokens", [[1, 2], [[1], [2]], 5, None, np.array([1, 2])])
def test_tokens_that_are_no_tensor_are_refused(tokens: Any) -> None:
    model = random_model()
    told = rf"tokens must be a tensor, .* not {type(tokens).__name__}"
    for run in (model, model.trace):
        with pytest.raises(TypeError, match=told):
            run(tokens)


MADE_FOR = "the cache is for (n_layer, n_head, d_head) ="


def other(**changes: int) -> Config:
    return Config(**(vars(SMALL) | changes))


@pytest.mark.parametrize(
    ("cache", "message"),
    [
        (KVCache(SMALL, batch_size=2), "batch_size = 2, the tokens have 1: make a new"),
        (
            KVCache(SMALL, max_len=2),
            "has 3 positions, more than the cache's max_len = 2",
        ),
        (
            KVCache(other(n_layer=1)),
            f"{MADE_FOR} (1, 3, 8), the model has (2, 3, 8): make",
        ),
        (KVCache(other(n_head=2)), f"{MADE_FOR} (2, 2, 12), "),
        (KVCache(other(n_embd=48)), f"{MADE_FOR} (2, 3, 16), "),
        (KVCache(other(n_embd=48, n_head=6)), f"{MADE_FOR} (2, 6, 8), "),
    ],
)
def test_a_cache_that_does_not_fit_is_refused(cache: KVCache, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        random_model()(torch.tensor([1, 2, 3]), cache)
    assert cache.length == 0


@pytest.mark.parametrize(
    "n_pad",
    [
        torch.tensor([0]),
        torch.tensor([0, 0, 0]),
        torch.tensor(0),
        torch.tensor([0, -1]),
        torch.tensor([0, 99]),
        torch.tensor([0.0, 1.0]),
        torch.tensor([[0], [1]]),
        [0, 1],
    ],
)
def test_a_padding_that_does_not_fit_is_refused(n_pad: Any) -> None:
    with pytest.raises(
        ValueError, match=r"n_pad must be an int64 tensor \[2\], one number"
    ):
        random_model()(torch.zeros(2, 3, dtype=torch.int64), n_pad=n_pad)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "last_only", "message"),
    [
        ((200, 1024), True, "attention weights would take 10,066,329,600 bytes"),
        ((60, 1024), False, "the logits would take 12,351,160,320 bytes, more than"),
        ((50_000, 1), True, "the logits would take 10,051,400,000 bytes, more than"),
    ],
)
def test_what_would_not_fit_is_refused_before_it_is_made(
    large: GPT2, shape: tuple[int, int], last_only: bool, message: str
) -> None:
    tokens = torch.zeros(1, 1, dtype=torch.int64).expand(shape)  # one number, repeated
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=message):
        large(tokens, last_only=last_only)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 1e5


# --- padding ---


def test_case_39_padding_changes_nothing_for_the_tokens_behind_it() -> None:
    model = random_model()
    tokens, n_pad = random_tokens(SMALL, 3, 8), torch.tensor([0, 3, 7])
    found = model(tokens, n_pad=n_pad)
    assert torch.isfinite(found).all()
    for row, logits, pad in zip(tokens, found, n_pad.tolist(), strict=True):
        assert_same_logits(logits[pad:], model(row[pad:]))


def test_skip_padding_by_hand() -> None:
    causal = torch.ones(3, 3, dtype=torch.bool).tril()
    positions, visible = skip_padding(torch.arange(3), causal, torch.tensor([0, 2]))
    assert positions.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert torch.equal(visible[0, 0], causal)
    assert torch.equal(visible[1, 0], torch.eye(3, dtype=torch.bool))
    # one new token at position 3, and three keys before it
    positions, visible = skip_padding(
        torch.tensor([3]), torch.ones(1, 4, dtype=torch.bool), torch.tensor([0, 2])
    )
    assert positions.tolist() == [[3], [1]]
    assert visible[:, 0, 0].tolist() == [[True] * 4, [False, False, True, True]]


# --- config ---

VALID = hugging_face_names(SMALL)


@pytest.mark.parametrize("names", [hugging_face_names, own_names])
def test_config_of_either_naming(
    tmp_path: Path, names: Callable[[Config], dict[str, Any]]
) -> None:
    config = Config.from_file(write_config(tmp_path, names(SMALL)))
    assert config == SMALL
    assert config.d_head == 8


@pytest.mark.slow
@pytest.mark.xdist_group("fullsize")
def test_config_as_gpt2_publishes_it(fullsize: Path) -> None:
    config = Config.from_file(fullsize / "config.json")
    assert config == Config(
        n_vocab=50257, n_ctx=1024, n_embd=768, n_head=12, n_layer=12
    )
    assert (config.d_head, config.layer_norm_epsilon) == (64, 1e-5)


def test_config_may_spell_the_defaults_out(tmp_path: Path) -> None:
    spelled = {
        "activation_function": "gelu_new",
        "n_inner": 96,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
        "add_cross_attention": False,
        "scale_attn_by_inverse_layer_idx": False,
    }
    without_epsilon = {k: v for k, v in VALID.items() if k != "layer_norm_epsilon"}
    assert Config.from_file(write_config(tmp_path, without_epsilon | spelled)) == SMALL


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("{", "it is not JSON in UTF-8: Expecting property name"),
        ("[]", "it is not a JSON object"),
        *(({k: v for k, v in VALID.items() if k != name}, f"{name} is missing")
          for name in ("vocab_size", "n_positions", "n_embd", "n_head", "n_layer")),
        ("[" * 100_000, "it nests too deeply$"),
        (VALID | {"n_layer": 10**12}, "n_layer must be at most 1,000, not 10000000"),
        (VALID | {"n_layer": 10**400}, r"at most 1,000, not 10*\.\.\.0*$"),
        (VALID | {"n_head": 10**400}, r"n_embd = 24 .* n_head = 10*\.\.\.0*$"),
        (VALID | {"n_embd": "\u202e" * 999}, r"n_embd must .*, not '\\u202e.{,99}'$"),
        (VALID | {"n_layer": 0}, "n_layer must be a whole number from 1 on, not 0"),
        (VALID | {"n_head": -3}, "n_head must be a whole number from 1 on, not -3"),
        (VALID | {"n_embd": 24.0}, "n_embd must be a whole number .*, not 24.0"),
        (VALID | {"n_embd": None}, "n_embd must be a whole number .*, not None"),
        (VALID | {"n_layer": True}, "n_layer must be a whole number .*, not True"),
        (VALID | {"vocab_size": "97"}, r"n_vocab \(vocab_size\) must .* '97'"),
        (VALID | {"n_head": 5}, "n_embd = 24 is not a multiple of n_head = 5"),
        (VALID | {"n_inner": 95}, "n_inner must be 4 · n_embd = 96, not 95"),
        (VALID | {"activation_function": "gelu"}, "'gelu_new', so this model cannot"),
        (VALID | {"scale_attn_weights": False}, "scale_attn_weights is False; GPT-2 "),
        (VALID | {"scale_attn_by_inverse_layer_idx": True}, "layer_idx is True; GPT-2"),
        (VALID | {"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        (VALID | {"add_cross_attention": True}, "add_cross_attention is True"),
        *((VALID | {"layer_norm_epsilon": value}, "must be a finite float above 0, not")
          for value in (0, 1, 0.0, -1e-5, math.nan, math.inf, True, None, "1e-5")),
    ],
)  # fmt: skip
def test_a_bad_config_is_refused(tmp_path: Path, raw: object, message: str) -> None:
    path = write_config(tmp_path, raw)
    with pytest.raises(ValueError, match=message) as error:
        Config.from_file(path)
    assert str(error.value).startswith(f"{path}: ")


# --- names and weights ---


def test_clean_names() -> None:
    one, two = torch.ones(1), torch.ones(2)
    tensors = {
        "transformer.wte.weight": one,
        "lm_head.weight": one.clone(),
        "transformer.h.0.attn.bias": two,
        "transformer.h.0.attn.masked_bias": two,
        "transformer.h.0.attn.c_attn.bias": two,
        "transformer.h.0.attn.c_proj.bias": two,
    }
    expected = {"wte.weight", "h.0.attn.c_attn.bias", "h.0.attn.c_proj.bias"}
    assert clean_names(tensors).keys() == expected
    assert clean_names(tensors)["wte.weight"] is one


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"wte.weight": torch.ones(2), "transformer.wte.weight": torch.ones(2)},
            "'wte.weight' both with and without 'transformer.'",
        ),
        (
            {"wte.weight": torch.ones(2), "lm_head.weight": torch.tensor([1.0, 1.1])},
            "lm_head.weight differs from wte.weight",
        ),
        (
            {"wte.weight": torch.ones(2), "lm_head.weight": torch.ones(3)},
            "lm_head.weight differs from wte.weight",
        ),
        ({"lm_head.weight": torch.ones(2)}, "lm_head.weight, but no wte.weight"),
    ],
)
def test_contradicting_names_are_refused(
    tensors: dict[str, Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        clean_names(tensors)


def test_expected_shapes_of_gpt2() -> None:
    shapes = expected_shapes(Config(50257, 1024, 768, 12, 12))
    assert len(shapes) == 148
    assert shapes["h.11.attn.c_attn.weight"] == (768, 2304)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 124_439_808


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"wpe.weight": None, "h.1.ln_2.bias": None},
            r"lacks 'h.1.ln_2.bias', 'wpe.weight' for n_layer = 2 in .* together\?$",
        ),
        (
            {"h.2.ln_1.bias": torch.ones(24)},
            "holds 'h.2.ln_1.bias', unknown for n_layer = 2 in",
        ),
        (
            {"wte.weight": torch.ones(96, 24)},
            r"wte.weight has shape \[96, 24\]; .* \[97, 24\]: do the",
        ),
        (
            {"h.0.attn.c_attn.weight": torch.ones(72, 24)},
            r"h.0.attn.c_attn.weight has shape \[72, 24\]; .* \[24, 72\]",
        ),
        (
            dict.fromkeys(expected_shapes(SMALL)),
            "'h.0.attn.c_attn.weight', .* 24 more for n_layer",
        ),
        ({"\x1b[2J\u202e": torch.ones(1)}, r"holds '\\x1b\[2J\\u202e', unknown"),
        (
            {"ln_f.bias": torch.ones(1, 24)},
            r"ln_f.bias has shape \[1, 24\]; .*\[24\]",
        ),
    ],
)
def test_weights_that_do_not_fit_the_config(
    tmp_path: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    changed = random_model().weights | changes
    weights = {name: tensor for name, tensor in changed.items() if tensor is not None}
    with pytest.raises(ValueError, match=message):
        GPT2(SMALL, weights)
    save_file(weights, tmp_path / "model.safetensors")
    write_config(tmp_path, VALID)
    with pytest.raises(ValueError, match=message) as error:
        GPT2.from_pretrained(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'model.safetensors'}: ")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (["ln_f.bias"], "torch.float32, torch.float64"),
        (list(expected_shapes(SMALL)), "torch.int64"),
        (list(expected_shapes(SMALL)), "torch.float8_e5m2"),
    ],
)
def test_weights_share_one_floating_dtype(changed: list[str], named: str) -> None:
    weights = random_model().weights
    other = getattr(torch, named.rpartition(".")[-1])
    message = f"one floating-point type such as torch.float32, not {named}$"
    with pytest.raises(ValueError, match=message):
        GPT2(SMALL, weights | {name: weights[name].to(other) for name in changed})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ln_f.bias", torch.full((24,), torch.nan), "'ln_f.bias' holds NaN or inf"),
        ("wpe.weight", torch.full((32, 24), -torch.inf), "'wpe.weight' holds NaN or"),
        ("ln_f.bias", torch.full((24,), 1e39, dtype=torch.float64), "a number too lar"),
        (
            "ln_f.bias",
            torch.ones(24, dtype=torch.int8),
            "torch.int8, not a floating-point type such as torch.float32",
        ),
        ("steps", torch.ones(1, dtype=torch.int64), "holds 'steps', unknown for n_la"),
    ],
)
def test_weights_that_no_arithmetic_can_use(
    tmp_path: Path, name: str, value: Tensor, message: str
) -> None:
    save_file(random_model().weights | {name: value}, tmp_path / "model.safetensors")
    write_config(tmp_path, VALID)
    with pytest.raises(ValueError, match=message) as error:
        GPT2.from_pretrained(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'model.safetensors'}: ")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    "stored", [torch.float64, torch.float32, torch.float16, torch.bfloat16]
)
def test_one_bad_number_is_found_wherever_it_lies(
    tmp_path: Path, stored: torch.dtype, value: float
) -> None:
    write_config(tmp_path, VALID)
    weights = {name: w.to(stored) for name, w in random_model().weights.items()}
    for place in range(72):
        damaged = weights["h.0.attn.c_attn.bias"].clone()
        damaged[place] = value
        changed = weights | {"h.0.attn.c_attn.bias": damaged}
        save_file(changed, tmp_path / "model.safetensors")
        with pytest.raises(ValueError, match=r"c_attn\.bias' holds NaN or infinity"):
            GPT2.from_pretrained(tmp_path)


@pytest.mark.parametrize("number", [1e5, -1e5])
def test_a_number_that_the_conversion_makes_infinite(
    tmp_path: Path, number: float
) -> None:
    """A checkpoint of float32 is sound; in float16 this number is none."""
    weights = random_model().weights
    weights["ln_f.bias"] = weights["ln_f.bias"].index_fill(0, torch.tensor([3]), number)
    save_file(weights, tmp_path / "model.safetensors")
    write_config(tmp_path, VALID)
    loaded = GPT2.from_pretrained(tmp_path).weights["ln_f.bias"]
    assert loaded[3] == number
    with pytest.raises(ValueError, match=r"'ln_f\.bias' holds a number too large for"):
        GPT2.from_pretrained(tmp_path, torch.float16)


def test_empty_heads_are_tied() -> None:
    """What is wrong with them is their shape, which is checked later."""
    empty = {name: torch.zeros(0, 3) for name in ("wte.weight", "lm_head.weight")}
    assert clean_names(empty).keys() == {"wte.weight"}


def test_an_untied_head_is_refused(tmp_path: Path) -> None:
    model = random_model()
    save_file(
        model.weights | {"lm_head.weight": model.weights["wte.weight"] + 1},
        tmp_path / "model.safetensors",
    )
    write_config(tmp_path, VALID)
    with pytest.raises(ValueError, match=r"safetensors: lm_head\.weight differs"):
        GPT2.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "names", [["wte.weight", "lm_head.weight"], ["lm_head.weight"]]
)
def test_a_damaged_head_is_damaged_and_no_other(
    tmp_path: Path, names: list[str]
) -> None:
    """NaN differs from itself, but that is not what is wrong."""
    wte = random_model().weights["wte.weight"]
    changed = {name: torch.full_like(wte, torch.nan) for name in names}
    save_file(random_model().weights | changed, tmp_path / "model.safetensors")
    write_config(tmp_path, VALID)
    with pytest.raises(ValueError, match=f"'{names[0]}' holds NaN or infinity"):
        GPT2.from_pretrained(tmp_path)


def test_a_shape_of_many_digits_is_cut(tmp_path: Path) -> None:
    save_file(random_model().weights, tmp_path / "model.safetensors")
    write_config(tmp_path, VALID | {"vocab_size": 10**400})
    with pytest.raises(ValueError, match=r"wte\.weight has shape") as error:
        GPT2.from_pretrained(tmp_path)
    assert len(str(error.value)) < len(str(tmp_path)) + 200


def test_a_broken_file_keeps_its_own_error(tmp_path: Path) -> None:
    write_config(tmp_path, VALID)
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ValueError, match="it is 5 bytes long") as error:
        GPT2.from_pretrained(tmp_path)
    assert str(error.value).count("model.safetensors") == 1


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "model"
    shutil.copytree(POCKET, directory)
    (directory / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        GPT2.from_pretrained(directory)
