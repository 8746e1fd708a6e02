"""Golden values: the bundled model's always, GPT-2's where its weights are."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

import hardway
from hardway import GPT2, Tokenizer, generate, generate_batch, safetensors
from hardway.hub import CHECKPOINTS, POCKET, RemoteFile
from references import relative_error

ROOT = Path(__file__).parents[2]
HOMES = [ROOT / "models", Path(os.environ.get("HARDWAY_HOME") or ROOT / "models")]
GPT2_DIRECTORY = next(
    (
        home / "gpt2"
        for home in HOMES
        if (home / "gpt2" / "model.safetensors").is_file()
    ),
    None,
)
needs_gpt2 = pytest.mark.skipif(
    GPT2_DIRECTORY is None,
    reason="GPT-2's own weights are not in models/gpt2 or $HARDWAY_HOME/gpt2; "
    "`hardway download gpt2` fetches them (548 MB)",
)

# --- the bundled model ---

POCKET_GREEDY = {
    "Once upon a time there was": [
        257, 1310, 2576, 3706, 20037, 13, 1375, 6151, 284, 711, 2354, 287, 262, 3952,
        13, 1881, 1110, 11, 673, 1043, 257, 1263, 11, 2266,
    ],
    "There was once a little girl": [
        3706, 20037, 13, 1375, 6151, 284, 711, 351, 607, 14958, 290, 4483, 28487, 13,
        1881, 1110, 11, 20037, 338, 1995, 1820, 1965, 607, 284,
    ],
}  # fmt: skip

POCKET_SAMPLED: list[tuple[dict[str, Any], list[int]]] = [
    ({"temperature": 1.0, "seed": 0},
     [612, 373, 257, 19716, 508, 5615, 287, 257, 6565, 2184, 959, 13]),
    ({"temperature": 0.9, "top_k": 20, "top_p": 0.95, "seed": 7},
     [11, 612, 373, 257, 2576, 3706, 20037, 13, 1375, 6151, 284, 711]),
]  # fmt: skip


def test_pocket_is_the_file_its_card_describes() -> None:
    card = (POCKET / "MODEL_CARD.md").read_text(encoding="utf-8")
    path = POCKET / "model.safetensors"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == "2b77f218800cd27b9b22d73b29fa80e75b65b513a195b62aeae76ff61556fa7e"
    assert re.findall(r"\b[0-9a-f]{64}\b", card) == [digest]
    header = safetensors.read_header(path)
    parameters = sum(torch.Size(info.shape).numel() for info in header.tensors.values())
    assert len(header.tensors) == 76
    assert parameters == 7_688_320
    assert {info.dtype for info in header.tensors.values()} == {"F16"}
    for stated in (f"{parameters:,}", "76 tensors", f"{path.stat().st_size:,} bytes"):
        assert stated in card


@pytest.mark.parametrize(("prompt", "expected"), POCKET_GREEDY.items())
def test_pocket_writes_what_it_wrote(
    pocket: GPT2, tokenizer: Tokenizer, prompt: str, expected: list[int]
) -> None:
    ids = tokenizer.encode(prompt)
    assert generate(pocket, ids, len(expected)) == expected
    assert generate(hardway.load("pocket"), ids, len(expected)) == expected
    reference = GPT2LMHeadModel.from_pretrained(
        POCKET, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        logits = reference(torch.tensor([ids + expected])).logits[0, len(ids) - 1 : -1]
    best = logits.topk(2)
    assert best.indices[:, 0].tolist() == expected
    assert (best.values[:, 0] - best.values[:, 1]).min() > 0.01  # no near tie decides


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize(("options", "expected"), POCKET_SAMPLED, ids=str)
def test_a_seed_writes_what_it_wrote(
    pocket: GPT2,
    tokenizer: Tokenizer,
    options: dict[str, Any],
    expected: list[int],
    use_cache: bool,
) -> None:
    ids = tokenizer.encode("Once upon a time")
    options = options | {"use_cache": use_cache}
    assert generate(pocket, ids, 12, **options) == expected
    assert generate_batch(pocket, [[5], ids], 12, **options)[1] == expected
    assert generate(hardway.load("pocket"), ids, 12, **options) == expected


def test_pocket_prefers_a_story_to_its_words_shuffled(
    pocket: GPT2, tokenizer: Tokenizer
) -> None:
    """It is really trained: about 4 nats a token on stories, not ln(50257) = 10.8."""
    tokens = torch.tensor(
        tokenizer.encode(
            "Once upon a time there was a king who had three sons. One was proud, the "
            "second clever, and the youngest was kind to every beast and bird."
        )
    )
    loss = F.cross_entropy(pocket(tokens)[:-1], tokens[1:])
    shuffled = tokens[
        torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))
    ]
    assert loss < 5
    assert F.cross_entropy(pocket(shuffled)[:-1], shuffled[1:]) > loss + 1


# --- the real GPT-2: values that others published ---

GPT2_IDS = {
    # transformers, test_modeling_gpt2.py
    "The dog": [
        373, 1043, 287, 257, 2214, 1474, 262, 16246, 286, 2688, 290, 2688, 27262, 13,
        198, 198, 464, 3290,
    ],
    # fastGPT, test_basic_input.f90
    "Alan Turing theorized that computers would one day become very powerful, but even "
    "he could not imagine": [
        703, 484, 561, 307, 1498, 284, 466, 523, 13, 198, 198, 1, 40, 892, 326, 262,
        749, 1593, 1517, 318,
    ],
    # fastGPT, test_more_inputs.f90
    "San Francisco is": [257, 1748, 286, 517, 621, 352, 1510, 661],
    "Cars are": [407, 3142, 284, 307, 973, 287, 262, 7647, 1256, 286, 257, 7072, 13],
    "Ondřej Čertík was born in": [
        1248, 5332, 287, 262, 7404, 286, 25370, 254, 368, 83, 6557, 81, 11,
    ],
}  # fmt: skip
GPT2_TEXTS = {
    # picoGPT, README
    "Alan Turing theorized that computers would one day become": " the most powerful "
    "machines on the planet.\n\nThe computer is a machine that can perform complex "
    "calculations, and it can perform these calculations in a way that is very similar "
    "to the human brain.\n",
    # Hugging Face, "How to generate text"
    "I enjoy walking with my cute dog": ", but I'm not sure if I'll ever be able to "
    "walk with my dog. I'm not sure if I'll ever be able to walk with my dog.\n\nI'm "
    "not sure if I'll",
    # Raschka, "Build a Large Language Model (From Scratch)", chapter 6
    "Every effort moves you": " forward.\n\nThe first step is to understand the "
    "importance of your work",
}
GPT2_BATCH = {  # transformers, test_modeling_gpt2.py, test_batch_generation
    "Hello, my dog is a little": " bit of a mess. I'm not sure if he's going",
    "Today, I": "'m going to be doing a lot of research on this. I",
}


@pytest.fixture(scope="module")
def gpt2() -> GPT2:
    assert GPT2_DIRECTORY is not None
    return GPT2.from_pretrained(GPT2_DIRECTORY)


@needs_gpt2
@pytest.mark.parametrize("file", CHECKPOINTS["gpt2"].files, ids=lambda file: file.name)
def test_gpt2_is_what_is_pinned(file: RemoteFile) -> None:
    """Wherever it came from: only a download hashes what arrives."""
    assert GPT2_DIRECTORY is not None
    with open(GPT2_DIRECTORY / file.name, "rb") as there:
        assert hashlib.file_digest(there, "sha256").hexdigest() == file.sha256


@needs_gpt2
def test_gpt2_file() -> None:
    assert GPT2_DIRECTORY is not None
    path = GPT2_DIRECTORY / "model.safetensors"
    header = safetensors.read_header(path)
    assert path.stat().st_size == 548_105_171
    assert (len(header.tensors), header.data_start) == (160, 14_291)
    assert header.metadata == {"format": "pt"}
    info = header.tensors["h.10.ln_1.weight"]  # as in the safetensors documentation
    assert (info.dtype, info.shape) == ("F32", (768,))
    assert (info.start, info.end) == (223_154_176, 223_157_248)


@needs_gpt2
@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize(("prompt", "expected"), GPT2_IDS.items())
def test_gpt2_greedy_ids(
    gpt2: GPT2, tokenizer: Tokenizer, prompt: str, expected: list[int], use_cache: bool
) -> None:
    found = generate(gpt2, tokenizer.encode(prompt), len(expected), use_cache=use_cache)
    assert found == expected


@needs_gpt2
@pytest.mark.parametrize(("prompt", "expected"), GPT2_TEXTS.items())
def test_gpt2_greedy_texts(
    gpt2: GPT2, tokenizer: Tokenizer, prompt: str, expected: str
) -> None:
    n = len(tokenizer.encode(expected))
    assert tokenizer.decode(generate(gpt2, tokenizer.encode(prompt), n)) == expected


@needs_gpt2
def test_gpt2_greedy_batch_of_two_lengths(gpt2: GPT2, tokenizer: Tokenizer) -> None:
    prompts = [tokenizer.encode(prompt) for prompt in GPT2_BATCH]
    found = generate_batch(gpt2, prompts, 13)
    assert [tokenizer.decode(ids) for ids in found] == list(GPT2_BATCH.values())


@needs_gpt2
def test_gpt2_loss(gpt2: GPT2, tokenizer: Tokenizer) -> None:
    """TransformerLens, test_hooked_transformer.py: the mean over three tokens."""
    ids = tokenizer.encode("<|endoftext|>Hello world!", allowed_special="all")
    tokens = torch.tensor(ids)
    assert ids == [50256, 15496, 995, 0]
    loss = F.cross_entropy(gpt2(tokens)[:-1], tokens[1:])
    assert float(loss) == pytest.approx(5.331855773925781, abs=1e-3)


@needs_gpt2
def test_gpt2_equals_transformers(gpt2: GPT2) -> None:
    reference = GPT2LMHeadModel.from_pretrained(
        GPT2_DIRECTORY, dtype=torch.float32, attn_implementation="eager"
    )
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(50257, (2, 64), generator=generator)
    with torch.no_grad():
        assert relative_error(gpt2(tokens), reference(tokens).logits) < 1e-4
