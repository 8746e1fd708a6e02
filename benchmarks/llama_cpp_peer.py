"""llama.cpp as a peer: the same weights in GGUF files, and a model that goes again."""

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
import torch
from torch import Tensor

from hardway import safetensors
from models import GPT2_124M

NAMES = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "wte": "token_embd",
    "wpe": "position_embd",
    "ln_f": "output_norm",
}


class LlamaCpp:
    """A llama.cpp model that takes ids, made for its turn and gone after it.

    Its threads would compete with torch's for the cores, awake or not.
    """

    def __init__(self, path: Path, n_ctx: int = 1024) -> None:
        threads = torch.get_num_threads()
        self.model = llama_cpp.Llama(
            str(path), n_ctx=n_ctx, n_batch=512, n_ubatch=512, n_threads=threads,
            n_threads_batch=threads, logits_all=False, verbose=False,
        )  # fmt: skip
        self([0], 8)  # its first steps do not count

    def __call__(self, ids: Sequence[int], n_new: int) -> list[int]:
        """Continue a prompt greedily by exactly ``n_new`` ids."""
        tokens = self.model.generate([*ids], top_k=1, temp=0.0, reset=True)
        return list(islice(tokens, n_new))

    def prefill(self, ids: Sequence[int]) -> None:
        """Run a prompt, up to the logits after its last token."""
        self.model.reset()
        self.model.eval([*ids])


def name_in_gguf(name: str) -> str:
    """Translate a GPT-2 tensor's name.

    >>> name_in_gguf("h.3.attn.c_attn.bias")
    'blk.3.attn_qkv.bias'
    """
    layer, part = "", name
    if name.startswith("h."):
        _, number, part = name.split(".", 2)
        layer = f"blk.{number}."
    part, _, last = part.rpartition(".")
    return f"{layer}{NAMES[part]}.{last}"


def write_gpt2(directory: Path, kind: str) -> Path:
    """Write the checkpoint in ``directory`` as a GGUF, its matrices in one kind."""
    path = directory / f"model.{kind}.gguf"
    if path.exists():
        return path
    half_written = directory / "half-written.gguf"
    writer = gguf.GGUFWriter(half_written, "gpt2")
    sizes = GPT2_124M
    writer.add_context_length(sizes.n_ctx)
    writer.add_embedding_length(sizes.n_embd)
    writer.add_feed_forward_length(4 * sizes.n_embd)
    writer.add_block_count(sizes.n_layer)
    writer.add_head_count(sizes.n_head)
    writer.add_layer_norm_eps(sizes.layer_norm_epsilon)
    add_vocabulary(writer, directory)
    weights = safetensors.load_file(directory / "model.safetensors")
    for name, tensor in as_gguf(weights).items():
        is_matrix = tensor.dim() == 2 and name != "position_embd.weight"
        found = gguf.GGMLQuantizationType[kind if is_matrix else "F32"]
        data = np.ascontiguousarray(tensor.numpy())
        writer.add_tensor(name, gguf.quantize(data, found), raw_dtype=found)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    half_written.rename(path)
    return path


def as_gguf(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the tensors as llama.cpp does; matrices are [n_out, n_in] there."""
    return {
        name_in_gguf(name): weight.T
        if weight.dim() == 2 and name.startswith("h.")
        else weight
        for name, weight in weights.items()
    }


def add_vocabulary(writer: gguf.GGUFWriter, directory: Path) -> None:
    """Store the vocabulary, without which llama.cpp loads no model."""
    vocab = json.loads((directory / "vocab.json").read_text(encoding="utf-8"))
    merges = (directory / "merges.txt").read_text(encoding="utf-8").split("\n")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(sorted(vocab, key=vocab.__getitem__))
    writer.add_token_types([3 if id == 50256 else 1 for id in range(len(vocab))])
    writer.add_token_merges([line for line in merges[1:] if line])
    writer.add_eos_token_id(50256)
    writer.add_bos_token_id(50256)
