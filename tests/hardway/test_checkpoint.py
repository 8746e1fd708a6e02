"""A checkpoint's names, shapes and dtypes, and every way that it is refused."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hardway import GPT2, Config, checkpoint
from hardway.checkpoint import clean_names, expected_shapes
from hardway.fast.gpt2 import FastGPT2
from hardway.hub import POCKET
from hardway.safetensors import SafetensorsError
from references import (
    SMALL,
    hugging_face_names,
    random_model,
    save_model,
    write_config,
)
from refusals import refuses, refuses_file

VALID = hugging_face_names(SMALL)

# --- nesting ---

PART = st.text(st.characters(exclude_characters="."), min_size=1, max_size=3)


def flatten(nested: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
    flat = {}
    for name, part in nested.items():
        if isinstance(part, Tensor):
            flat[prefix + name] = part
        else:
            flat |= flatten(part, f"{prefix}{name}.")
    return flat


TREES = st.recursive(
    st.builds(torch.ones, st.integers(1, 3)),
    lambda parts: st.dictionaries(PART, parts, min_size=1, max_size=4),
    max_leaves=12,
).filter(lambda tree: isinstance(tree, dict))


@given(tree=TREES)
def test_nesting_undoes_flattening(tree: dict[str, Any]) -> None:
    flat = flatten(tree)
    nested = checkpoint.nest(flat)
    assert flatten(nested).keys() == flat.keys()
    assert all(flatten(nested)[name] is tensor for name, tensor in flat.items())

    def names(node: Any) -> Any:
        if isinstance(node, Tensor):
            return None
        return {name: names(part) for name, part in node.items()}

    assert names(nested) == names(tree)


def test_nested_weights_are_those_of_the_model() -> None:
    model = random_model()
    block = model.blocks[1]
    assert block["attn"]["c_attn"]["weight"] is model.weights["h.1.attn.c_attn.weight"]
    assert model.wte is model.weights["wte.weight"]
    assert model.ln_f["bias"] is model.weights["ln_f.bias"]
    flat = flatten(checkpoint.nest(model.weights))
    assert list(flat) == list(model.weights)


def test_a_cast_shares_what_has_the_dtype() -> None:
    tree = {
        "a": {"half": torch.ones(2, dtype=torch.float16), "whole": torch.ones(2)},
        "b": torch.ones(3),
    }
    found = checkpoint.cast(tree, torch.float32)
    assert found["b"] is tree["b"]
    assert found["a"]["whole"] is tree["a"]["whole"]
    assert found["a"]["half"].dtype == torch.float32
    assert tree["a"]["half"].dtype == torch.float16  # the caller's is left alone


@pytest.mark.parametrize(
    ("stored", "computed"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32),
     (torch.float32, torch.float32), (torch.float64, torch.float64)],
)  # fmt: skip
def test_the_dtype_to_compute_in(stored: torch.dtype, computed: torch.dtype) -> None:
    assert checkpoint.compute_dtype(stored) == computed


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
    ("tensors", "named"),
    [
        ({"wte.weight": torch.ones(2), "transformer.wte.weight": torch.ones(2)},
         "'wte.weight' both with and without"),
        ({"wte.weight": torch.ones(2), "lm_head.weight": torch.tensor([1.0, 1.1])},
         "lm_head.weight must equal wte.weight"),
        ({"wte.weight": torch.ones(2), "lm_head.weight": torch.ones(3)},
         "lm_head.weight must equal wte.weight"),
        ({"a.wte.weight": torch.ones(2), "a.lm_head.weight": torch.ones(2),
          "lm_head.weight": torch.ones(2)},
         "'lm_head.weight' both with and without 'a.'"),
        ({"a.b.wte.weight": torch.ones(2), "a.lm_head.weight": torch.ones(2),
          "lm_head.weight": torch.ones(2)}, "lm_head.weight and a.lm_head.weight"),
    ],
)  # fmt: skip
def test_contradicting_names_are_refused(
    tensors: dict[str, Tensor], named: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        clean_names(tensors)


def test_expected_shapes_of_gpt2() -> None:
    shapes = expected_shapes(Config(50257, 1024, 768, 12, 12))
    assert len(shapes) == 148
    assert shapes["h.11.attn.c_attn.weight"] == (768, 2304)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 124_439_808


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"wpe.weight": None, "h.1.ln_2.bias": None},
         "lacks 'h.1.ln_2.bias', 'wpe.weight' for n_layer = 2"),
        ({"h.2.ln_1.bias": torch.ones(24)}, "has 'h.2.ln_1.bias', unexpected"),
        ({"wte.weight": torch.ones(96, 24)}, "wte.weight must have shape [97, 24]"),
        ({"h.0.attn.c_attn.weight": torch.ones(72, 24)},
         "h.0.attn.c_attn.weight must have shape [24, 72]"),
        (dict.fromkeys(expected_shapes(SMALL)), "lacks 'h.0.attn.c_attn.bias', "),
        ({"\x1b[2J\u202e": torch.ones(1)}, r"has '\x1b[2J\u202e', unexpected"),
        ({"ln_f.bias": torch.ones(1, 24)}, "ln_f.bias must have shape [24]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_weights_that_do_not_fit_the_config(
    tmp_path: Path, changes: dict[str, Tensor | None], named: str
) -> None:
    changed = random_model().weights | changes
    weights = {name: tensor for name, tensor in changed.items() if tensor is not None}
    with pytest.raises(ValueError, match=re.escape(named)) as caught:
        GPT2(SMALL, weights)
    assert str(caught.value).endswith("do weights and config belong together?")
    assert len(str(caught.value)) < 300
    path = save_model(tmp_path, weights)
    with refuses_file(path, named):
        GPT2.from_pretrained(tmp_path)


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
    with refuses("the weights") as caught:
        GPT2(SMALL, weights | {name: weights[name].to(other) for name in changed})
    assert str(caught.value).endswith(f"got {named}")


@pytest.mark.parametrize("kind", [GPT2, FastGPT2])
@pytest.mark.parametrize("moved", ["wte.weight", "ln_f.bias"])
def test_weights_share_one_device(kind: type[GPT2], moved: str) -> None:
    weights = random_model().weights
    with refuses("the weights") as caught:
        kind(SMALL, weights | {moved: weights[moved].to("meta")})
    assert str(caught.value) == "the weights must be on one device, got cpu, meta"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("ln_f.bias", torch.full((24,), torch.nan), "NaN or infinity"),
        ("wpe.weight", torch.full((32, 24), -torch.inf), "NaN or infinity"),
        ("ln_f.bias", torch.full((24,), 1e39, dtype=torch.float64), "too large"),
        ("ln_f.bias", torch.ones(24, dtype=torch.int8), "floating-point dtype"),
        ("steps", torch.ones(1, dtype=torch.int64), "unexpected"),
    ],
)
def test_weights_that_no_arithmetic_can_use(
    tmp_path: Path, name: str, value: Tensor, problem: str
) -> None:
    path = save_model(tmp_path, random_model().weights | {name: value})
    with refuses_file(path, repr(name)) as caught:
        GPT2.from_pretrained(tmp_path)
    assert problem in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    "stored", [torch.float64, torch.float32, torch.float16, torch.bfloat16]
)
def test_one_bad_number_is_found_wherever_it_lies(
    tmp_path: Path, stored: torch.dtype, value: float
) -> None:
    weights = {name: w.to(stored) for name, w in random_model().weights.items()}
    for place in range(72):
        damaged = weights["h.0.attn.c_attn.bias"].clone()
        damaged[place] = value
        changed = weights | {"h.0.attn.c_attn.bias": damaged}
        path = save_model(tmp_path, changed)
        with refuses_file(path, "'h.0.attn.c_attn.bias'"):
            GPT2.from_pretrained(tmp_path)


@pytest.mark.parametrize("number", [1e5, -1e5])
def test_a_number_that_the_conversion_makes_infinite(
    tmp_path: Path, number: float
) -> None:
    """A checkpoint of float32 is sound; in float16 this number is none."""
    weights = random_model().weights
    weights["ln_f.bias"] = weights["ln_f.bias"].index_fill(0, torch.tensor([3]), number)
    path = save_model(tmp_path, weights)
    loaded = GPT2.from_pretrained(tmp_path).weights["ln_f.bias"]
    assert loaded[3] == number
    with refuses_file(path, "'ln_f.bias'") as caught:
        GPT2.from_pretrained(tmp_path, torch.float16)
    assert "too large for torch.float16" in str(caught.value)


def test_empty_heads_are_tied() -> None:
    """What is wrong with them is their shape, which is checked later."""
    empty = {name: torch.zeros(0, 3) for name in ("wte.weight", "lm_head.weight")}
    assert clean_names(empty).keys() == {"wte.weight"}


def test_an_untied_head_is_refused(tmp_path: Path) -> None:
    model = random_model()
    head = {"lm_head.weight": model.weights["wte.weight"] + 1}
    path = save_model(tmp_path, model.weights | head)
    with refuses_file(path, "lm_head.weight"):
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
    path = save_model(tmp_path, random_model().weights | changed)
    with refuses_file(path, f"'{names[0]}' contains NaN or infinity"):
        GPT2.from_pretrained(tmp_path)


def test_a_shape_of_many_digits_is_cut(tmp_path: Path) -> None:
    path = save_model(tmp_path, random_model().weights)
    write_config(tmp_path, VALID | {"vocab_size": 10**400})
    with refuses_file(path, "wte.weight must have shape") as caught:
        GPT2.from_pretrained(tmp_path)
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


def test_a_broken_file_keeps_its_own_error(tmp_path: Path) -> None:
    path = save_model(tmp_path, random_model().weights)
    path.write_bytes(b"short")
    with refuses_file(path, "5 bytes", SafetensorsError):
        GPT2.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "model"
    shutil.copytree(POCKET, directory)
    (directory / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        GPT2.from_pretrained(directory)
