"""Look at what a directory holds, and decide which of its files to read.

People bring checkpoints as they have them: in Hugging Face layout, in shards, in the
hub's cache, under OpenAI's original names, pickled. What is simple and safe is read;
the rest is named, together with what converts it. Nothing here opens a file of weights,
and nothing anywhere unpickles one: a pickle can run any program.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hardway.checks import safe_repr, some
from hardway.untrusted import prefix_errors, read_json_object

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIGS = ("config.json", "hparams.json")  # the second is OpenAI's
TOKENIZER = "tokenizer.json"
VOCABS = ("vocab.json", "encoder.json")
MERGES = ("merges.txt", "vocab.bpe")
SUFFIXES = (
    ".gguf",
    ".safetensors",
    ".safetensors.index.json",
)  # of a file that is a model
SHARD = re.compile(r"-\d+-of-\d+\.")
PLAIN_NAME = re.compile(r"[\w.-]+", re.ASCII)
NO_WEIGHTS = re.compile(  # what a trainer leaves beside them
    r"training_args\.|optimizer\.|scheduler\.|scaler\.|rng_state|random_states"
)

# Commands, run in the directory of the weights, with what reads them.
PICKLE = (
    'python -c "import torch; from safetensors.torch import save_file; '
    "w = torch.load('NAME', map_location='cpu', weights_only=True); "
    "w = w.get('model', w); "
    "save_file({k: v.contiguous().clone() for k, v in w.items()}, "
    "'model.safetensors')\""
)
RESAVE = (
    'python -c "from transformers import AutoModelForCausalLM as Model; '
    "Model.from_pretrained('.').save_pretrained('.')\""
)
MERGE = (
    'python -c "from peft import AutoPeftModelForCausalLM as Model; '
    "Model.from_pretrained('.').merge_and_unload().save_pretrained('merged')\""
)
FROM_TENSORFLOW = (
    "python -m transformers.models.gpt2.convert_gpt2_original_tf_checkpoint_to_pytorch "
    "--gpt2_config_file hparams.json --gpt2_checkpoint_path . "
    "--pytorch_dump_folder_path ."
)
RUN = "to convert, run in that directory: "
OLD = "to convert, with transformers 4, run in that directory: "
# Weights that are not read, the likeliest first: a pattern, what they are, and advice.
FOREIGN = (
    (r"adapter_model\.", "an adapter without its model", RUN + MERGE),
    (r"pytorch_model.*-of-", "a shard of pickled weights", RUN + RESAVE),
    (r".*\.(bin|pt|pth|ckpt|pkl)$", "pickled weights", RUN + PICKLE),
    (r"tf_model\.h5$", "TensorFlow weights",
     OLD + RESAVE.replace("'.')", "'.', from_tf=True)", 1)),
    (r"flax_model\.msgpack$", "Flax weights",
     OLD + RESAVE.replace("'.')", "'.', from_flax=True)", 1)),
    (r"model(\.ckpt|-\d+)\.(index|meta|data)", "OpenAI's TensorFlow checkpoint",
     OLD + FROM_TENSORFLOW),
    (r".*\.(onnx|npz|npy|h5|ot|msgpack)$", "weights of another kind",
     "save the model again, as safetensors"),
)  # fmt: skip
FOREIGN_VOCABULARIES = {
    "tokenizer.model": "a SentencePiece vocabulary",
    "spiece.model": "a SentencePiece vocabulary",
    "vocab.txt": "a WordPiece vocabulary",
    "tokenizer.tiktoken": "a tiktoken vocabulary",
}


@dataclass(frozen=True)
class Contents:
    """What a directory holds, as the files to read.

    weights: one file, or several to choose from; config: the model's sizes; vocabulary:
    one file, or vocab and merges; other: weights that are not read, as a name, what it
    is, and what converts it. A file that is missing has its usual name.
    """

    weights: tuple[Path, ...]
    config: Path
    vocabulary: tuple[Path, ...]
    other: tuple[str, str, str] | None


def look(path: Path) -> Contents:
    """Look at a directory, or at a file of weights and what is beside it.

    Weights are ``model.safetensors``, else an index of shards, else any safetensors
    file that isn't an adapter, else GGUF files. ``tokenizer.json`` is preferred to
    vocab and merges, because it alone says how words are split. A GGUF file contains
    its own vocabulary.
    """
    directory = path if path.is_dir() else path.parent
    names = sorted(file.name for file in directory.iterdir() if file.is_file())
    weights = _weights(names) if path.is_dir() else [path.name]
    config = _first(CONFIGS, names)
    if path.is_file() and is_gguf(path):
        vocabulary = [path.name]
    elif TOKENIZER in names:
        vocabulary = [TOKENIZER]
    elif weights and is_gguf(path / weights[0]) and not {*VOCABS, *MERGES} & {*names}:
        vocabulary = weights
    else:
        vocabulary = [_first(VOCABS, names), _first(MERGES, names)]
    return Contents(
        tuple(directory / name for name in weights),
        directory / config,
        tuple(directory / name for name in vocabulary),
        _other(names),
    )


def _first(usual: Sequence[str], names: Collection[str]) -> str:
    """Return the first usual name that is there; if none is, the most usual."""
    return next((name for name in usual if name in names), usual[0])


def _weights(names: Sequence[str]) -> list[str]:
    """Return the names of the weights that can be read, if there are any."""
    for name in (WEIGHTS, INDEX):
        if name in names:
            return [name]
    for suffix in (".safetensors", ".gguf"):
        if found := [
            name
            for name in names
            if name.lower().endswith(suffix) and not name.startswith("adapter_")
        ]:
            return found
    return []


def _other(names: Sequence[str]) -> tuple[str, str, str] | None:
    """Return the likeliest weights that are not read: name, kind, and advice."""
    for pattern, kind, advice in FOREIGN:
        for name in names:
            if re.match(pattern, name) and not NO_WEIGHTS.match(name):
                # A reader may run the advice, so no strange name gets into it.
                known = name if PLAIN_NAME.fullmatch(name) else "NAME"
                return safe_repr(name), kind, advice.replace("NAME", known)
    return None


def is_gguf(path: Path) -> bool:
    """Return whether a file's name ends in ``.gguf``, however it is capitalized."""
    return path.suffix.lower() == ".gguf"


def is_model_file(path: Path) -> bool:
    """Return whether a path is a file of weights of a kind that is read."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def find_weights(path: Path) -> Path:
    """Return the file of weights: safetensors, an index of shards, or GGUF.

    Raises `FileNotFoundError` where there is none, naming what is there instead;
    `ValueError` where there are several to choose from.
    """
    found = look(path)
    if len(found.weights) == 1:
        return found.weights[0]
    names = [file.name for file in found.weights]
    if names and all(map(SHARD.search, names)):
        problem = f"{some(names)} are shards, but their index, {INDEX}, is missing"
        raise FileNotFoundError(f"{path}: {problem}: get it, too")
    if names:
        choice = ", ".join(names)
        raise ValueError(f"{path}: several models are there; name one file of {choice}")
    problem = f"{path}: no {WEIGHTS} and no .gguf file is there"
    if found.other:
        name, kind, advice = found.other
        raise FileNotFoundError(
            f"{problem}, but {name}: {kind}, which cannot be read here: {advice}"
        )
    below = [sub.name for sub in sorted(path.iterdir()) if _holds_weights(sub)]
    hint = f", but there are in {some(below)}: name that directory" if below else ""
    raise FileNotFoundError(problem + hint)


def _holds_weights(path: Path) -> bool:
    return path.is_dir() and bool(look(path).weights or (path / "snapshots").is_dir())


def config_of(weights: Path) -> Path:
    """Return the file with the sizes of a model, beside its weights.

    Raises `ValueError` for a GGUF file, which contains them.
    """
    if is_gguf(weights):
        raise ValueError(
            f"{weights}: is a GGUF file, whose sizes are a Llama's: load it with "
            "hardway.load or Llama.from_pretrained"
        )
    return look(weights).config


def find_vocabulary(path: Path) -> tuple[Path, ...]:
    """Return the files of a vocabulary: ``tokenizer.json``, GGUF, or vocab and merges.

    Raises `FileNotFoundError` where there are none, `ValueError` where there are
    several GGUF files to choose from.
    """
    files = look(path).vocabulary
    if len(files) > 1 and is_gguf(files[0]):
        return (find_weights(path),)
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: No such file{_instead(file.parent)}")
    return files


def _instead(directory: Path) -> str:
    """Return what is in place of a byte-level vocabulary, for a message."""
    for name, kind in FOREIGN_VOCABULARIES.items():
        if (directory / name).is_file():
            return f", but {name}: {kind}, which is not implemented"
    return ""


def snapshot(directory: Path) -> Path:
    """Return the snapshot of a model in the hub's cache; any other directory as it is.

    The cache keeps every revision, and ``refs/main`` says which is the latest. Raises
    `ValueError` where there are several and none is that.
    """
    if not (directory / "snapshots").is_dir():
        return directory
    found = sorted((directory / "snapshots").iterdir())
    main = directory / "refs" / "main"
    latest = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    chosen = [path for path in found if path.name == latest] or found
    if len(chosen) != 1:
        names = some([path.name for path in found]) or "none"
        problem = "must hold one snapshot, or say in refs/main which is the latest"
        raise ValueError(f"{directory}: {problem}, got {names}: name one's directory")
    return chosen[0]


def shards(weights: Path) -> list[Path]:
    """Return the files that an index of shards lists, or the file of weights itself.

    Raises `ValueError` for an index that isn't one, or lists a file elsewhere;
    `FileNotFoundError` naming the shards that are missing.
    """
    if not weights.name.lower().endswith(SUFFIXES[2]):
        return [weights]
    with prefix_errors(weights):
        listed = read_json_object(weights).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            problem = f"names to files, got {safe_repr(listed)}"
            raise ValueError(f"weight_map must map tensors' {problem}")
        for name in listed.values():
            is_plain = isinstance(name, str) and PLAIN_NAME.fullmatch(name)
            if not is_plain or not name.lower().endswith(".safetensors"):
                problem = f"beside the index, got {safe_repr(name)}"
                raise ValueError(f"weight_map must name .safetensors files {problem}")
    names = sorted({*listed.values()})
    files = [weights.with_name(name) for name in names]
    if missing := [file.name for file in files if not file.is_file()]:
        raise FileNotFoundError(
            f"{weights}: {some(missing)} of its {len(files)} shards are missing: get "
            "them, too"
        )
    return files
