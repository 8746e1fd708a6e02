"""What config.json may say, by either naming, and every way it is refused."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hardway import Config
from references import (
    SMALL,
    hugging_face_names,
    own_names,
    with_sizes,
    write_config,
)
from refusals import refuses, refuses_file

VALID = hugging_face_names(SMALL)


@pytest.mark.parametrize("names", [hugging_face_names, own_names])
def test_config_of_either_naming(
    tmp_path: Path, names: Callable[[Config], dict[str, Any]]
) -> None:
    config = Config.from_file(write_config(tmp_path, names(SMALL)))
    assert config == SMALL
    assert config.d_head == 8


@pytest.mark.slow
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


def test_the_heads_have_keys_of_their_own() -> None:
    assert SMALL.n_kv_head == SMALL.n_head == 3


@pytest.mark.parametrize(
    ("raw", "entry"),
    [
        ("{", "not JSON in UTF-8"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "too deeply"),
        *(({k: v for k, v in VALID.items() if k != name}, f"{name} is missing")
          for name in ("vocab_size", "n_positions", "n_embd", "n_head", "n_layer")),
        *((VALID | {name: value}, f"{name} must")
          for name, value in [
              ("n_layer", 10**12), ("n_layer", 10**400), ("n_layer", 0),
              ("n_layer", 1001), ("n_layer", True), ("n_head", -3), ("n_embd", 24.0),
              ("n_embd", None), ("n_embd", "\u202e" * 999), ("n_inner", 95),
              ("activation_function", "gelu"), ("scale_attn_weights", False),
              ("scale_attn_by_inverse_layer_idx", True), ("tie_word_embeddings", False),
              ("add_cross_attention", True),
              *(("layer_norm_epsilon", value)
                for value in (0, 0.0, -1e-5, math.nan, math.inf, True, None, "1e-5")),
          ]),
        (VALID | {"vocab_size": "97"}, "n_vocab (vocab_size) must"),
        (VALID | {"n_positions": 0}, "n_ctx (n_positions) must"),
        (VALID | {"n_head": 10**400}, "n_embd must be a multiple of n_head"),
        (VALID | {"n_head": 5}, "n_embd must be a multiple of n_head"),
    ],
    ids=lambda value: str(value)[-40:],
)  # fmt: skip
def test_a_bad_config_is_refused(tmp_path: Path, raw: object, entry: str) -> None:
    path = write_config(tmp_path, raw)
    with refuses_file(path, entry) as caught:
        Config.from_file(path)
    message = str(caught.value).removeprefix(str(path))
    assert message.isprintable()
    assert len(message) < 300


def test_a_thousand_layers_are_the_most(tmp_path: Path) -> None:
    raw = VALID | {"n_layer": 1000}
    assert Config.from_file(write_config(tmp_path, raw)).n_layer == 1000


def test_a_refused_variant_says_that_it_cannot_be_run(tmp_path: Path) -> None:
    path = write_config(tmp_path, VALID | {"activation_function": "relu"})
    with pytest.raises(ValueError, match=r"'gelu_new'.*'relu'.* cannot be run here$"):
        Config.from_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        Config.from_file(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"n_vocab": 0}, "n_vocab"), ({"n_ctx": 1.0}, "n_ctx"), ({"n_head": 5}, "n_embd"),
     ({"n_layer": 1001}, "n_layer"), ({"layer_norm_epsilon": 0}, "layer_norm_epsilon")],
)  # fmt: skip
def test_sizes_from_no_file_are_checked_too(
    changes: dict[str, Any], named: str
) -> None:
    with refuses(named):
        with_sizes(SMALL, **changes)


@pytest.mark.parametrize("spelled", [np.int64, np.uint16, torch.tensor])
def test_sizes_become_plain_ints(spelled: Callable[[int], Any]) -> None:
    sizes = {name: size for name, size in vars(SMALL).items() if type(size) is int}
    assert len(sizes) == 5
    found = with_sizes(SMALL, **{name: spelled(n) for name, n in sizes.items()})
    assert found == SMALL
    assert hash(found) == hash(SMALL)
    assert repr(found) == repr(SMALL)
    assert {name: type(getattr(found, name)) for name in sizes} == dict.fromkeys(
        sizes, int
    )


@pytest.mark.parametrize(
    "spelled", [np.float64, lambda x: torch.tensor(x, dtype=torch.float64)]
)
def test_the_epsilon_becomes_a_plain_float(spelled: Callable[[float], Any]) -> None:
    found = with_sizes(SMALL, layer_norm_epsilon=spelled(1e-5))
    assert type(found.layer_norm_epsilon) is float
    assert found == SMALL
    assert hash(found) == hash(SMALL)
    assert type(with_sizes(SMALL, layer_norm_epsilon=1).layer_norm_epsilon) is float
