"""Write a Llama as a GGUF, as llama.cpp's converter does, by gguf-py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from torch import Tensor

from hardway import Llama
from llamas import as_gguf


def write_llama(
    path: Path, model: Llama, kinds: Mapping[str, str] | None = None, **changes: Any
) -> Path:
    """Write the model's tensors in the kinds given by a part of their names.

    A matrix that none names is F16; every vector is F32. ``changes`` replace metadata;
    None leaves a key out.
    """
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    numbers = {
        "vocab_size": config.n_vocab,
        "context_length": config.n_ctx,
        "embedding_length": config.n_embd,
        "attention.head_count": config.n_head,
        "attention.head_count_kv": config.n_kv_head,
        "block_count": config.n_layer,
        "feed_forward_length": config.n_inner,
        "rope.dimension_count": config.d_head,
        "attention.key_length": config.d_head,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": config.rope_theta,
    } | changes
    for key, value in numbers.items():
        if isinstance(value, float):
            writer.add_float32(f"llama.{key}", value)
        elif value is not None:
            writer.add_uint32(f"llama.{key}", value)
    for name, tensor in shuffled(as_gguf(model)).items():
        kind = next((k for part, k in (kinds or {}).items() if part in name), "F16")
        kind = "F32" if tensor.dim() == 1 else kind
        found = gguf.GGMLQuantizationType[kind]
        data = tensor.contiguous().float().numpy()
        if kind == "F32":
            writer.add_tensor(name, data)
        else:
            packed = gguf.quantize(np.ascontiguousarray(data), found)
            writer.add_tensor(name, packed, raw_dtype=found)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def shuffled(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sort by name: block 10 comes before block 2, as in SmolLM2's file."""
    return dict(sorted(tensors.items()))
