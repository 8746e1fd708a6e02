"""The package as a whole: its names, its promises, and the order of its modules."""

import ast
import importlib
import importlib.resources
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import hardway

SOURCE = Path(hardway.__file__).parent
CHAPTERS = {
    "miniature": "0",
    "safetensors": "1",
    "hub": "1",
    "tokenizer": "2",
    "embeddings": "3",
    "attention": "4",
    "block": "5",
    "model": "6",
    "generation": "7",
    "kv_cache": "8",
}
MAY_IMPORT = {
    "__init__": set(),
    "__main__": {"cli"},
    "miniature": {"tokenizer"},
    "safetensors": set(),
    "transfer": set(),
    "hub": {"transfer"},
    "fast_tokenizer": set(),
    "tokenizer": {"hub", "fast_tokenizer"},
    "embeddings": set(),
    "attention": set(),
    "block": {"embeddings", "attention"},
    "fast": {"attention"},
    "kv_cache": set(),
    "model": {
        "block",
        "fast",
        "attention",
        "embeddings",
        "kv_cache",
        "hub",
        "safetensors",
    },
    "generation": {"model", "fast", "attention", "kv_cache", "tokenizer"},
    "plots": {*CHAPTERS},
    "cli": {*CHAPTERS, "plots"},
}
EVERYWHERE = {"torch", "regex"}
HELPERS = {
    "transfer": {"requests", "urllib3", "filelock", "tqdm"},
    "hub": {"platformdirs"},
    "cli": {"click", "rich"},
    "plots": {"matplotlib", "myst_nb"},
}


def tree(module: str) -> ast.Module:
    return ast.parse((SOURCE / f"{module}.py").read_text(encoding="utf-8"))


def run_time(node: ast.AST) -> ast.AST:
    """Leave out what only a type checker reads."""

    class Strip(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            checking = ast.unparse(node.test) == "TYPE_CHECKING"
            return None if checking else self.generic_visit(node)

    return Strip().visit(node)


def imported(module: str) -> set[str]:
    """The dotted names that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(run_time(tree(module))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_module_has_its_place() -> None:
    assert {path.stem for path in SOURCE.glob("*.py")} == MAY_IMPORT.keys()


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_modules_import_downward(module: str) -> None:
    names = [name.split(".") for name in imported(module)]
    inner = {name[1] for name in names if name[0] == "hardway"}
    assert inner <= MAY_IMPORT[module]


def test_nothing_goes_round_in_a_circle() -> None:
    below: dict[str, set[str]] = {}
    for module in MAY_IMPORT:
        names = [name.split(".") for name in imported(module)]
        below[module] = {name[1] for name in names if name[0] == "hardway"}
    while leaves := {module for module, uses in below.items() if not uses}:
        below = {m: uses - leaves for m, uses in below.items() if m not in leaves}
    assert below == {}


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_third_parties(module: str) -> None:
    tops = {name.split(".")[0] for name in imported(module)}
    outer = tops - sys.stdlib_module_names - {"hardway"}
    assert outer <= EVERYWHERE | HELPERS.get(module, set())


@pytest.mark.parametrize("module", sorted(CHAPTERS.keys() - {"hub"}))
def test_the_core_is_raw_tensors(module: str) -> None:
    nodes = [node for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute)]
    used = {ast.unparse(node) for node in nodes} | imported(module)
    parts = {
        part for name in used if name.startswith("torch.") for part in name.split(".")
    }
    assert not parts & {"nn", "jit", "compile", "functional", "special"}
    if module != "miniature":
        assert not {"softmax", "layer_norm", "gelu"} & parts
    assert not [name for name in used if "scaled_dot_product" in name]


def members(module: ModuleType) -> dict[str, object]:
    """The public functions and classes that a module itself defines, with methods."""
    found: dict[str, object] = {}
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
            continue
        found[name] = value
        if inspect.isclass(value):
            methods = {k: v for k, v in vars(value).items() if not k.startswith("_")}
            kinds = (classmethod, staticmethod, property)
            found |= {
                f"{name}.{k}": v
                for k, v in methods.items()
                if inspect.isfunction(v) or isinstance(v, kinds)
            }
    return found


@pytest.mark.parametrize(
    "module", [*CHAPTERS, "fast_tokenizer", "transfer", "plots", "cli"]
)
def test_docstrings(module: str) -> None:
    loaded = importlib.import_module(f"hardway.{module}")
    names = members(loaded)
    assert names
    undocumented = [name for name, value in names.items() if not inspect.getdoc(value)]
    assert undocumented == []


@pytest.mark.parametrize(("module", "chapter"), CHAPTERS.items())
def test_docstrings_name_the_chapter(module: str, chapter: str) -> None:
    loaded = importlib.import_module(f"hardway.{module}")
    assert loaded.__doc__
    assert re.search(rf"\(chapters? {chapter}\b", loaded.__doc__)
    silent = [
        name
        for name, value in members(loaded).items()
        if "." not in name and not re.search(r"Chapter \d", inspect.getdoc(value) or "")
    ]
    assert silent == []


def test_names() -> None:
    assert dir(hardway) == sorted(hardway.__all__)
    for name in hardway.__all__:
        assert getattr(hardway, name) is not None
    for module in CHAPTERS:
        assert getattr(hardway, module) is importlib.import_module(f"hardway.{module}")
    assert hardway.GPT2 is hardway.model.GPT2
    assert hardway.Config is hardway.model.Config
    assert hardway.KVCache is hardway.kv_cache.KVCache
    assert hardway.Tokenizer is hardway.tokenizer.Tokenizer
    for name in ("generate", "generate_batch", "stream", "stream_text"):
        assert getattr(hardway, name) is getattr(hardway.generation, name)


def test_an_unknown_name() -> None:
    with pytest.raises(
        AttributeError, match="module 'hardway' has no attribute 'gpt3'"
    ):
        hardway.gpt3  # noqa: B018
    assert not hasattr(hardway, "__wrapped__")


def test_type_checkers_see_the_same_names() -> None:
    (checked,) = [
        node
        for node in tree("__init__").body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    imports = [node for node in checked.body if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names}
    assert names == {*hardway.__all__, "plots"}


def fresh(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_names_are_lazy() -> None:
    code = """
import sys, hardway
assert 'torch' not in sys.modules and not dir(hardway) == []
hardway.hub.find('pocket')
assert 'torch' not in sys.modules
hardway.Tokenizer
assert 'torch' not in sys.modules
hardway.GPT2
assert 'torch' in sys.modules and 'matplotlib' not in sys.modules
print('lazy')
"""
    assert fresh(code) == "lazy\n"


def test_everything_but_figures_works_without_matplotlib() -> None:
    code = """
import inspect, sys
sys.modules['matplotlib'] = None
from hardway import *
import hardway
inspect.getmembers(hardway)
print(Tokenizer.from_pretrained().encode('Hello'))
"""
    assert fresh(code) == "[15496]\n"


def test_what_is_in_the_package() -> None:
    package = importlib.resources.files("hardway")
    assert package.joinpath("py.typed").is_file()
    pocket = package.joinpath("models", "pocket")
    assert {file.name for file in pocket.iterdir()} == {
        "config.json",
        "model.safetensors",
        "vocab.json",
        "merges.txt",
        "MODEL_CARD.md",
    }


def test_the_example_in_the_docstring() -> None:
    import doctest

    assert doctest.testmod(hardway) == (0, 3)
