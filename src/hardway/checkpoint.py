"""Check a checkpoint against its config: names, shapes, the tied head, dtypes.

Checkpoint names are the program's names: loading is a loop, not a translation table.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hardway import gguf, inputs, layout, safetensors, untrusted
from hardway.checks import safe_repr, some
from hardway.config import Config, LlamaConfig

Shapes = dict[str, tuple[int, ...]]


def expected_shapes(config: Config | LlamaConfig) -> Shapes:
    """List every tensor of a model by its name, with its shape."""
    if isinstance(config, LlamaConfig):
        return llama_shapes(config)
    return gpt2_shapes(config)


def gpt2_shapes(config: Config) -> Shapes:
    """List every tensor of a GPT-2 and its shape: 12 · n_layer + 4."""
    n = config.n_embd
    block = {
        "ln_1.weight": (n,), "ln_1.bias": (n,),
        "attn.c_attn.weight": (n, 3 * n), "attn.c_attn.bias": (3 * n,),
        "attn.c_proj.weight": (n, n), "attn.c_proj.bias": (n,),
        "ln_2.weight": (n,), "ln_2.bias": (n,),
        "mlp.c_fc.weight": (n, 4 * n), "mlp.c_fc.bias": (4 * n,),
        "mlp.c_proj.weight": (4 * n, n), "mlp.c_proj.bias": (n,),
    }  # fmt: skip
    shapes: Shapes = {"wte.weight": (config.n_vocab, n)}
    shapes["wpe.weight"] = (config.n_ctx, n)
    for layer in range(config.n_layer):
        shapes |= {f"h.{layer}.{name}": shape for name, shape in block.items()}
    return shapes | {"ln_f.weight": (n,), "ln_f.bias": (n,)}


def llama_shapes(config: LlamaConfig) -> Shapes:
    """List every tensor of a Llama and its shape: 9 · n_layer + 2, and an untied head.

    A block's matrices are [n_in, n_out], so that ``x @ weight`` works.
    """
    n, n_inner = config.n_embd, config.n_inner
    n_q, n_kv = config.n_head * config.d_head, config.n_kv_head * config.d_head
    block = {
        "input_layernorm.weight": (n,),
        "self_attn.q_proj.weight": (n, n_q), "self_attn.k_proj.weight": (n, n_kv),
        "self_attn.v_proj.weight": (n, n_kv), "self_attn.o_proj.weight": (n_q, n),
        "post_attention_layernorm.weight": (n,),
        "mlp.gate_proj.weight": (n, n_inner), "mlp.up_proj.weight": (n, n_inner),
        "mlp.down_proj.weight": (n_inner, n),
    }  # fmt: skip
    shapes: Shapes = {"embed_tokens.weight": (config.n_vocab, n)}
    for layer in range(config.n_layer):
        shapes |= {f"layers.{layer}.{name}": shape for name, shape in block.items()}
    shapes["norm.weight"] = (n,)
    return shapes if config.tied else shapes | {"lm_head.weight": (config.n_vocab, n)}


def nest(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Nest weights as the dots in their names say.

    >>> nest({"h.0.ln_1.weight": torch.ones(2)})
    {'h': {'0': {'ln_1': {'weight': tensor([1., 1.])}}}}
    """
    root: dict[str, Any] = {}
    for name, tensor in weights.items():
        *path, last = name.split(".")
        node = root
        for part in path:
            node = node.setdefault(part, {})
        node[last] = tensor
    return root


def cast(weights: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    """Return nested weights in a dtype; those already in it are not copied."""
    return {
        name: part.to(dtype) if isinstance(part, Tensor) else cast(part, dtype)
        for name, part in weights.items()
    }


def compute_dtype(stored: torch.dtype) -> torch.dtype:
    """Return the dtype to compute in: float32 where weights have fewer bits than that.

    In float16 the residual stream of GPT-2 overflows when its variance is taken.
    """
    return torch.promote_types(stored, torch.float32)


def load(
    path: Path,
    config: Config | LlamaConfig,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    clean: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] | None = None,
) -> dict[str, Tensor]:
    """Load the weights of a model in one dtype, one tensor at a time.

    ``clean`` brings the file's names, and the order of its axes, to the program's; by
    default it is `clean_names`. Raises `ValueError` naming the file if its tensors do
    not match ``config`` or contain NaN or infinity, and `OSError` if it cannot be read.
    """
    inputs.check_dtype("dtype", dtype)
    device = inputs.check_device(device)
    found = load_files(path)
    with untrusted.prefix_errors(path):
        found = clean(found) if clean else untangle(config, clean_names(found))
        check_shapes(config, found)  # first: an unknown tensor needs no conversion
        for name, tensor in found.items():  # in place, to save memory
            found[name] = convert(name, tensor, dtype).to(device)
    return found


def load_files(path: Path) -> dict[str, Tensor]:
    """Read a file of weights, or the shards that an index lists."""
    if layout.is_gguf(path):
        return gguf.load_file(path)
    found: dict[str, Tensor] = {}
    for shard in layout.shards(path):
        tensors = safetensors.load_file(shard)
        if twice := sorted(found.keys() & tensors.keys()):
            raise ValueError(f"{shard}: another shard has {some(twice)}, too")
        found |= tensors
    return found


def clean_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring a checkpoint's names to one form.

    Some files prefix every name, with ``transformer.`` for example; the Hugging Face
    conversion of GPT-2 stores each layer's causal mask as ``h.N.attn.bias``, a constant
    and not a weight; some store the output matrix as ``lm_head.weight``, too or
    instead, which in GPT-2 is ``wte.weight`` again. Raises `ValueError` if it is not,
    because then logits = hidden @ wte.T would be wrong.
    """
    clean = merge_head(unwrap(tensors, ("wte.weight", "wpe.weight")), "wte.weight")
    buffers = (".attn.bias", ".attn.masked_bias")
    return {
        name: tensor for name, tensor in clean.items() if not name.endswith(buffers)
    }


def strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Remove a prefix from the names that have it.

    Raises `ValueError` for a name that is there both with and without it.
    """
    if twice := [name for name in tensors if f"{prefix}{name}" in tensors]:
        raise ValueError(
            f"the checkpoint has {some(twice)} both with and without {prefix!r}"
        )
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def unwrap(
    tensors: Mapping[str, Tensor], anchors: tuple[str, ...]
) -> dict[str, Tensor]:
    """Remove what wrappers put in front of a model's names: ``_orig_mod.``, ``model.``.

    anchors: names that every such model has, and with which each begins that stands in
    front. The output matrix, ``lm_head.weight``, may have only some of the prefix.
    """
    prefixes = {
        name.removesuffix(anchor)
        for name in tensors
        for anchor in anchors
        if f".{name}".endswith(f".{anchor}")
    }
    prefix = max(prefixes, key=len, default="")
    clean = strip_prefix(tensors, prefix) if prefix else dict(tensors)
    for name in [name for name in clean if name.endswith(".lm_head.weight")]:
        if prefix.startswith(name.removesuffix("lm_head.weight")):
            if "lm_head.weight" in clean:
                raise ValueError(f"the checkpoint has lm_head.weight and {name}")
            clean["lm_head.weight"] = clean.pop(name)
    return clean


def merge_head(clean: dict[str, Tensor], embedding: str) -> dict[str, Tensor]:
    """Keep one copy of a tied output matrix, by the embedding's name.

    A file may have both, or either: safetensors stores a tensor once, and which of its
    names it keeps is up to the program that writes. Raises what `check_tied` does.
    """
    if "lm_head.weight" in clean:
        if embedding in clean:
            check_tied(clean, embedding)
        clean.setdefault(embedding, clean["lm_head.weight"])
        del clean["lm_head.weight"]
    return clean


def untangle(
    config: Config | LlamaConfig, tensors: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Bring a GPT-2 that another program trained to this one's layout.

    nanoGPT and others store matrices [n_out, n_in]. A square one doesn't show it, so
    either every matrix that does is turned, and then all are, or none is turned, and
    `check_shapes` finds what is wrong. A model trained without any bias gets biases
    of 0, which change nothing.
    """
    shapes = expected_shapes(config)
    matrices = [
        name
        for name in tensors
        if name.startswith("h.") and len(shapes.get(name, ())) == 2
    ]
    oblong = [name for name in matrices if len({*shapes[name]}) == 2]
    if oblong and all(tensors[name].shape == shapes[name][::-1] for name in oblong):
        tensors |= {name: tensors[name].T.contiguous() for name in matrices}
    rest = {name: shapes[name] for name in shapes if not name.endswith(".bias")}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} == rest:
        dtype = tensors["wte.weight"].dtype
        for name in shapes.keys() - rest.keys():
            tensors[name] = torch.zeros(shapes[name], dtype=dtype)
    return tensors


def check_weights(
    config: Config | LlamaConfig, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return exactly the tensors of `expected_shapes`, in its order.

    Raises `ValueError` naming tensors that are missing or unknown, or the first whose
    shape is wrong, and for more than one dtype or device.
    """
    check_shapes(config, weights)
    ordered = {name: weights[name] for name in expected_shapes(config)}
    devices = {tensor.device for tensor in ordered.values()}
    if len(devices) > 1:
        places = ", ".join(sorted(map(str, devices)))
        raise ValueError(f"the weights must be on one device, got {places}")
    dtypes = {tensor.dtype for tensor in ordered.values()}
    if len(dtypes) > 1 or not all(map(inputs.is_usable, dtypes)):
        kinds = ", ".join(sorted(map(str, dtypes)))
        raise ValueError(
            "the weights must share one floating-point dtype such as torch.float32, "
            f"got {kinds}"
        )
    return ordered


def check_shapes(config: Config | LlamaConfig, weights: Mapping[str, Tensor]) -> None:
    """Raise `ValueError` for a tensor that is missing, unknown or misshapen."""
    shapes, doubt = expected_shapes(config), "do weights and config belong together?"
    layers = f"for n_layer = {config.n_layer} in the config: {doubt}"
    if missing := sorted(shapes.keys() - weights.keys()):
        raise ValueError(f"the checkpoint lacks {some(missing)} {layers}")
    if unknown := sorted(weights.keys() - shapes.keys()):
        raise ValueError(f"the checkpoint has {some(unknown)}, unexpected {layers}")
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            found, wanted = safe_repr(list(weights[name].shape)), safe_repr(list(shape))
            raise ValueError(
                f"{name} must have shape {wanted} for the config, got {found}: {doubt}"
            )


def check_tied(weights: Mapping[str, Tensor], embedding: str) -> None:
    """Raise `ValueError` unless lm_head.weight equals the embedding (weight tying)."""
    for name in (embedding, "lm_head.weight"):
        check_finite(name, weights[name])  # NaN equals nothing
    if not torch.equal(weights["lm_head.weight"], weights[embedding]):
        raise ValueError(
            f"lm_head.weight must equal {embedding}, as the config says, but differs: "
            "this model is not supported"
        )


def convert(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert a weight to ``dtype``; reject integers, NaN, infinity and overflow."""
    if not inputs.is_usable(tensor.dtype):
        raise ValueError(
            f"{safe_repr(name)} must have a floating-point dtype like torch.float32, "
            f"got {tensor.dtype}"
        )
    check_finite(name, tensor)
    if dtype == tensor.dtype:
        return tensor
    converted = tensor.to(dtype)
    if not is_finite(converted):
        problem = f"contains a number too large for {dtype}: use another dtype"
        raise ValueError(f"{safe_repr(name)} {problem}")
    return converted


def check_finite(name: str, tensor: Tensor) -> None:
    """Raise `ValueError` for a weight that contains NaN or infinity."""
    if not is_finite(tensor):
        problem = "contains NaN or infinity: the file is damaged"
        raise ValueError(f"{safe_repr(name)} {problem}")


def is_finite(tensor: Tensor) -> bool:
    """Return whether all elements are finite, by min and max; NaN propagates."""
    return not tensor.numel() or all(map(math.isfinite, tensor.aminmax()))
