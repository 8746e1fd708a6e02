"""Write a model in Hugging Face layout, which other programs load.

Three files say what the model is: ``config.json``, the sizes; ``model.safetensors``,
the weights; ``tokenizer.json``, with ``tokenizer_config.json``, the vocabulary.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hardway import inputs, safetensors
from hardway.checkpoint import expected_shapes
from hardway.config import ARITHMETIC, LLAMA_ARITHMETIC, LLAMA_SIZES, SIZES, Config
from hardway.model import Decoder
from hardway.tokenizer import DIGIT, Tokenizer, byte_alphabet

FORMAT = {"format": "pt"}  # transformers wants to know which library the tensors suit
# vLLM asserts the first; the second's default is outside a smaller vocabulary.
UNSET = {"reorder_and_upcast_attn": False, "bos_token_id": None}


def export(
    model: Decoder, tokenizer: Tokenizer, directory: str | os.PathLike[str]
) -> Path:
    """Write a model and its tokenizer into a directory, which is made; return it.

    Weights keep their dtype. Raises `ValueError` for a tokenizer that isn't the
    model's, and for quantized weights, `OSError` if a file cannot be written.
    """
    if model.weights.keys() != expected_shapes(model.config).keys():
        raise ValueError(
            "the model's weights must not be quantized: load it with "
            "dtype=torch.float32, which dequantizes them"
        )
    inputs.check_vocabularies(model.config.n_vocab, tokenizer.n_vocab)
    target = Path(os.path.expanduser(directory))
    target.mkdir(parents=True, exist_ok=True)
    weights = hugging_face_weights(model)
    safetensors.save_file(weights, target / "model.safetensors", FORMAT)
    dtype = str(next(iter(weights.values())).dtype).removeprefix("torch.")
    found = {"eos_token_id": tokenizer.eot_id, "torch_dtype": dtype}
    for name, contents in {
        "config.json": hugging_face_config(model) | found,
        "tokenizer.json": tokenizer_json(tokenizer),
        "tokenizer_config.json": tokenizer_config(tokenizer, model.config.n_ctx),
    }.items():
        text = json.dumps(contents, indent=2, ensure_ascii=False) + "\n"
        (target / name).write_text(text, encoding="utf-8")
    return target


def hugging_face_weights(model: Decoder) -> dict[str, Tensor]:
    """Return the weights by the names and in the layout of Hugging Face's files.

    GPT-2's matrices are [n_in, n_out] there, too; a Llama's are [n_out, n_in].
    """
    if isinstance(model.config, Config):
        return {f"transformer.{name}": w for name, w in model.weights.items()}
    return {
        name if name == "lm_head.weight" else f"model.{name}": (
            w.T.contiguous() if name.startswith("layers.") and w.dim() == 2 else w
        )
        for name, w in model.weights.items()
    }


def hugging_face_config(model: Decoder) -> dict[str, Any]:
    """Return the sizes by the names of ``config.json``."""
    config = model.config
    if isinstance(config, Config):
        sizes = {theirs: getattr(config, ours) for ours, theirs in SIZES.items()}
        kind = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}
        sizes["layer_norm_epsilon"] = config.layer_norm_epsilon
        return {**kind, **sizes, **ARITHMETIC, **UNSET}
    sizes = {theirs: getattr(config, ours) for ours, theirs, _ in LLAMA_SIZES}
    fixed = {
        k: LLAMA_ARITHMETIC[k] for k in ("hidden_act", "attention_bias", "mlp_bias")
    }
    kind = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    return {**kind, **sizes, **fixed, "tie_word_embeddings": config.tied}


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return byte-level BPE as ``tokenizer.json`` spells it."""
    special = {"special": True, "normalized": False}
    whole = dict.fromkeys(("single_word", "lstrip", "rstrip"), False) | special
    added = sorted(tokenizer.special_ids.items(), key=lambda item: item[1])
    of_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    split = {**of_bytes, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    cut_digits = {"type": "Sequence", "pretokenizers": [digits, split]}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": id, "content": text, **whole} for text, id in added],
        "normalizer": None,
        "pre_tokenizer": cut_digits if DIGIT in tokenizer.patterns else split,
        "post_processor": None,
        "decoder": split,
        "model": {"type": "BPE", "dropout": None, "unk_token": None}
        | {"continuing_subword_prefix": None, "end_of_word_suffix": None}
        | {"fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
        | {"vocab": spelled_vocab(tokenizer), "merges": spelled_merges(tokenizer)},
    }


def spelled_vocab(tokenizer: Tokenizer) -> dict[str, int]:
    """Return each token's spelling in GPT-2's byte alphabet, and its id."""
    plain = {spell(piece): id for piece, id in tokenizer.ids.items()}
    return dict(sorted((plain | tokenizer.special_ids).items(), key=lambda t: t[1]))


def spelled_merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """Return the pairs in the order learned."""
    ordered = sorted(tokenizer.ranks, key=tokenizer.ranks.__getitem__)
    return [(spell(left), spell(right)) for left, right in ordered]


def spell(piece: bytes) -> str:
    """Spell bytes in GPT-2's byte alphabet.

    >>> spell(b" caf")
    'Ġcaf'
    """
    return "".join(map(SPELLING.__getitem__, piece))


SPELLING = byte_alphabet()


def tokenizer_config(tokenizer: Tokenizer, n_ctx: int) -> Mapping[str, Any]:
    """Return what the tokenizer's own file leaves open: the end, the chat template."""
    (end,) = (t for t, id in tokenizer.special_ids.items() if id == tokenizer.eot_id)
    template = tokenizer.chat_template
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": n_ctx,
        "eos_token": end,
    } | ({"chat_template": template} if template is not None else {})
