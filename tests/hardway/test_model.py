"""The model against transformers: logits, traces, dtypes, devices, padding."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2LMHeadModel

import hardway
from hardway import GPT2, Config, KVCache, block, inputs
from hardway import model as module
from hardway.checkpoint import expected_shapes
from hardway.fast.gpt2 import FastGPT2
from hardway.hub import POCKET
from hardway.model import positions_and_mask, skip_padding
from references import (
    SMALL,
    as_transformers,
    assert_same_logits,
    own_names,
    random_model,
    random_tokens,
    save_model,
    with_sizes,
    write_config,
)
from refusals import BAD_DEVICES, refuses
from tensors import assert_close

KINDS = pytest.mark.parametrize("kind", [GPT2, FastGPT2])
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
    save_model(directory, model.weights | head, model.config)


def save_with_prefix_head_and_old_buffers(directory: Path, model: GPT2) -> None:
    tensors = {f"transformer.{name}": tensor for name, tensor in model.weights.items()}
    tensors["lm_head.weight"] = model.weights["wte.weight"].clone()
    for layer in range(model.config.n_layer):
        tensors[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    save_model(directory, tensors, model.config)


LAYOUTS = [
    save_with_prefix,
    save_bare_with_buffers,
    save_bare_with_head,
    save_with_prefix_head_and_old_buffers,
]


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


def test_case_39_the_124m_shape_has_1024_positions(large: GPT2) -> None:
    cache = KVCache(large.config)
    cache.advance(1023)
    assert torch.isfinite(large(torch.tensor([0]), cache)).all()
    with refuses("tokens"):
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
    with refuses("dtype"):
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
    with refuses("tokens"):
        model.trace(random_tokens(SMALL, 2, 3))
    with refuses("each of tokens"):
        model.trace(torch.tensor([97]))
    with refuses("tokens", TypeError):
        model.trace([1, 2])  # type: ignore[arg-type]


@KINDS
def test_a_trace_too_large_is_refused_before_it_is_made(
    kind: type[GPT2], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokens = kind(SMALL, random_model().weights), random_tokens(SMALL, 32)
    size = SMALL.n_layer * SMALL.n_head * 32 * 32 * 4
    monkeypatch.setattr(inputs, "MAX_BYTES", size)
    assert model.trace(tokens).attention.nbytes == size
    monkeypatch.setattr(inputs, "MAX_BYTES", size - 1)
    with (
        patch.object(module, "transformer_block", side_effect=AssertionError("work")),
        refuses("the attention weights of all layers"),
    ):
        model.trace(tokens)


# --- the last position alone ---


@KINDS
@pytest.mark.parametrize("batch", [(), (1,), (3,)], ids=str)
@pytest.mark.parametrize("past", [0, 4])
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
def test_last_only_gives_the_last_row_of_all(
    kind: type[GPT2], batch: tuple[int, ...], past: int, padded: bool
) -> None:
    model = kind(SMALL, random_model().weights)
    tokens = random_tokens(SMALL, *batch, 9)
    size = batch[0] if batch else 1
    n_pad = torch.tensor([0, 3, 1][:size]) if padded else None
    everywhere = model(tokens, n_pad=n_pad)
    assert everywhere.shape == (*batch, 9, SMALL.n_vocab)
    cache = model.new_cache(size) if past else None
    if past:
        model(tokens[..., :past], cache, n_pad=n_pad)
    last = model(tokens[..., past:], cache, last_only=True, n_pad=n_pad)
    assert last.shape == (*batch, 1, SMALL.n_vocab)
    assert_close(last, everywhere[..., -1:, :], factor=20)
    if cache is not None:
        assert cache.length == 9


@KINDS
@pytest.mark.parametrize("n", [1, 2])
def test_last_only_of_the_fewest_tokens(kind: type[GPT2], n: int) -> None:
    model, tokens = kind(SMALL, random_model().weights), random_tokens(SMALL, 3, n)
    last = model(tokens, last_only=True)
    assert last.shape == (3, 1, SMALL.n_vocab)
    assert_close(last, model(tokens)[:, -1:], factor=20)


def test_the_taught_block_never_hears_of_last_only() -> None:
    """The mask's rows are the positions; the model takes the last after all blocks."""
    model, tokens = random_model(), random_tokens(SMALL, 2, 9)
    seen: list[tuple[torch.Size, torch.Size]] = []

    def watched(x: Tensor, weights: Any, *rest: Any) -> tuple[Tensor, Tensor]:
        out = block.transformer_block(x, weights, *rest)
        seen.append((rest[2].shape, out[0].shape))
        return out

    calls = []
    for last_only in (False, True):
        with patch.object(module, "transformer_block", watched):
            model(tokens, last_only=last_only)
        calls.append(seen.copy())
        seen.clear()
    shapes = (torch.Size([9, 9]), torch.Size([2, 9, SMALL.n_embd]))
    assert calls == [[shapes] * SMALL.n_layer] * 2


# --- bad input: what is refused, and why, is in test_checks ---


@KINDS
@pytest.mark.parametrize(
    ("named", "arguments"),
    [
        ("tokens", {"tokens": torch.tensor([1.0])}),
        ("tokens", {"tokens": torch.zeros(33, dtype=torch.int64)}),
        ("each of tokens", {"tokens": torch.tensor([97])}),
        ("cache", {"cache": KVCache(SMALL, batch_size=2)}),
        ("cache", {"cache": KVCache(with_sizes(SMALL, n_layer=3))}),
        ("n_pad", {"n_pad": torch.tensor([3])}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_argument_is_refused_before_any_work(
    kind: type[GPT2], named: str, arguments: dict[str, Any]
) -> None:
    model = kind(SMALL, random_model().weights)
    with (
        patch.object(torch.Tensor, "__getitem__", side_effect=AssertionError("work")),
        refuses(named),
    ):
        model(**{"tokens": torch.tensor([1, 2, 3])} | arguments)
    if cache := arguments.get("cache"):
        assert cache.length == 0


@KINDS
def test_a_list_of_ids_is_a_type_error(kind: type[GPT2]) -> None:
    model: Any = kind(SMALL, random_model().weights)
    with refuses("tokens", TypeError):
        model([1, 2])


@pytest.mark.parametrize(
    ("shape", "last_only", "named"),
    [
        ((200, 1024), True, "the attention weights"),
        ((60, 1024), False, "the logits"),
        ((50_000, 1), True, "the logits"),
    ],
)
def test_what_would_not_fit_is_refused_before_it_is_made(
    large: GPT2, shape: tuple[int, int], last_only: bool, named: str
) -> None:
    tokens = torch.zeros(1, 1, dtype=torch.int64).expand(shape)  # one number, repeated
    resource = pytest.importorskip("resource")  # POSIX only
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with refuses(named):
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
    positions, mask = skip_padding(torch.arange(3), causal, torch.tensor([0, 2]))
    assert positions.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert torch.equal(mask[0, 0], causal)
    assert torch.equal(mask[1, 0], torch.eye(3, dtype=torch.bool))
    # one new token at position 3, and three keys before it
    positions, mask = skip_padding(
        torch.tensor([3]), torch.ones(1, 4, dtype=torch.bool), torch.tensor([0, 2])
    )
    assert positions.tolist() == [[3], [1]]
    assert mask[:, 0, 0].tolist() == [[True] * 4, [False, False, True, True]]


def test_positions_and_mask_by_hand() -> None:
    cpu = torch.device("cpu")
    positions, mask = positions_and_mask(2, 2, None, cpu)
    assert positions.tolist() == [2, 3]
    assert mask.tolist() == [[True, True, True, False], [True] * 4]
    positions, mask = positions_and_mask(2, 2, torch.tensor([0, 1]), cpu)
    assert positions.tolist() == [[2, 3], [1, 2]]
    assert mask.shape == (2, 1, 2, 4)
    assert mask[:, 0, 1].tolist() == [[True] * 4, [False, True, True, True]]


# --- devices ---


class OneDevice(TorchDispatchMode):
    """Refuse an operation on tensors of two devices, and a tensor made elsewhere.

    Torch itself lets an index lie on the CPU, which costs a copy each time.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        devices = {x.device.type for x in tensors(args)}
        assert len(devices) <= 1, func
        if not devices:
            assert {x.device.type for x in tensors([out])} == {self.device}, func
        return out


def tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors(value)


def on(device: str, kind: type[GPT2], config: Config = SMALL) -> GPT2:
    weights = random_model(config).weights
    return kind(config, {name: tensor.to(device) for name, tensor in weights.items()})


@KINDS
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
def test_every_tensor_is_made_where_the_weights_are(
    kind: type[GPT2], padded: bool
) -> None:
    """On the meta device there are shapes alone, and no other device may be mixed in.

    The tokens come from the CPU, as `generate` makes them.
    """
    model = on("meta", kind)
    n_pad = torch.tensor([0, 2]) if padded else None
    tokens = random_tokens(SMALL, 2, 5)
    cache = model.new_cache(2, 8)
    assert cache.keys.device.type == cache.values.device.type == "meta"
    for part, last_only in ((tokens, False), (tokens[:, :2], True), (tokens[:, :1], 0)):
        with OneDevice("meta"):
            logits = model(part, cache, last_only=bool(last_only), n_pad=n_pad)
        rows = 1 if last_only else part.shape[1]
        assert logits.shape == (2, rows, SMALL.n_vocab)
        assert logits.device.type == "meta"
        assert logits.dtype == torch.float32
    assert cache.length == 8


@KINDS
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
def test_tokens_and_padding_may_lie_where_the_weights_do(
    kind: type[GPT2], padded: bool
) -> None:
    model, cache = on("meta", kind), KVCache(SMALL, 2, device="meta")
    tokens = random_tokens(SMALL, 2, 5).to("meta")
    n_pad = torch.tensor([0, 2], device="meta") if padded else None
    for part in (tokens, tokens[:, :1]):
        logits = model(part, cache, n_pad=n_pad)
        assert logits.shape == (*part.shape, SMALL.n_vocab)
        assert logits.is_meta
    assert cache.length == 6


@KINDS
@pytest.mark.parametrize(("weights", "keys"), [("cpu", "meta"), ("meta", "cpu")])
def test_a_cache_on_another_device_is_refused(
    kind: type[GPT2], weights: str, keys: str
) -> None:
    model, cache = on(weights, kind), KVCache(SMALL, device=keys)
    with refuses("cache") as caught:
        model(random_tokens(SMALL, 5), cache)
    assert f"device = {weights}, got {keys}" in str(caught.value)
    assert cache.length == 0


@KINDS
@pytest.mark.parametrize("device", BAD_DEVICES, ids=repr)
def test_a_bad_device_is_refused_before_the_weights_are_read(
    kind: type[GPT2], device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> None:
        pytest.fail("the weights were read")

    monkeypatch.setattr("hardway.safetensors.load_file", read)
    with refuses("device"):
        kind.from_pretrained("pocket", device=device)
    with refuses("device"):
        hardway.load("pocket", device=device)
    with refuses("device"):
        on("cpu", kind).to(device)


@KINDS
def test_a_trace_on_another_device(kind: type[GPT2]) -> None:
    model, tokens = on("meta", kind), random_tokens(SMALL, 5)
    with OneDevice("meta"):
        trace = model.trace(tokens)
    assert trace.residual.shape == (SMALL.n_layer + 1, 5, SMALL.n_embd)
    assert trace.attention.shape == (SMALL.n_layer, SMALL.n_head, 5, 5)
    assert trace.logits.shape == (5, SMALL.n_vocab)
    assert {x.device.type for x in vars(trace).values()} == {"meta"}


@KINDS
def test_to_moves_a_model_and_shares_what_is_there(kind: type[GPT2]) -> None:
    model = on("cpu", kind)
    same, moved = model.to("cpu"), model.to(torch.device("meta"))
    assert type(same) is type(moved) is kind
    assert model.device.type == same.device.type == "cpu"
    assert moved.device.type == "meta"
    for name, weight in model.weights.items():
        assert same.weights[name].data_ptr() == weight.data_ptr()
        assert moved.weights[name].device.type == "meta"
        assert moved.weights[name].shape == weight.shape


@KINDS
def test_a_model_is_loaded_onto_a_device(kind: type[GPT2], tmp_path: Path) -> None:
    save_model(tmp_path, random_model().weights)
    model = kind.from_pretrained(tmp_path, torch.float16, device="meta")
    assert type(model) is kind
    assert model.device.type == "meta"
    assert {(w.device.type, w.dtype) for w in model.weights.values()} == {
        ("meta", torch.float16)
    }
    assert model.new_cache().keys.dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@KINDS
def test_a_gpu_computes_the_same(kind: type[GPT2]) -> None:
    model, tokens = on("cpu", kind), random_tokens(SMALL, 2, 9)
    moved, n_pad = model.to("cuda"), torch.tensor([0, 3])
    expected = model(tokens, n_pad=n_pad)
    cache = moved.new_cache(2)
    found = [moved(part, cache, n_pad=n_pad) for part in tokens.split([5, 4], dim=1)]
    assert {part.device.type for part in found} == {"cuda"}
    assert_same_logits(torch.cat(found, dim=1).cpu(), expected)


# --- a cache of its own ---


@KINDS
@pytest.mark.parametrize(
    ("stored", "computed"),
    [(torch.float32, torch.float32), (torch.float64, torch.float64),
     (torch.float16, torch.float32), (torch.bfloat16, torch.float32)],
    ids=str,
)  # fmt: skip
def test_a_new_cache_has_what_the_model_computes_in(
    kind: type[GPT2], stored: torch.dtype, computed: torch.dtype
) -> None:
    model = kind(SMALL, random_model(dtype=stored).weights)
    cache = model.new_cache()
    assert cache.keys.dtype == cache.values.dtype == computed
    assert (cache.batch_size, cache.max_len, cache.length) == (1, SMALL.n_ctx, 0)
    cache = model.new_cache(3, 7)
    assert cache.keys.shape == (SMALL.n_layer, 3, SMALL.n_head, 7, SMALL.d_head)
    with refuses("max_len"):
        model.new_cache(1, 33)
