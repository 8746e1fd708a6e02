"""The package as a whole: its names, its promises, and the order of its modules."""

import ast
import doctest
import importlib
import importlib.metadata
import importlib.resources
import inspect
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import pytest

import hardway

SOURCE = Path(hardway.__file__).parent

# From the bottom up: a module imports from the rows above its own, and from no other.
LAYERS = [
    ["checks", "loading", "transfer"],
    ["wheel", "inputs", "untrusted"],
    ["layout", "ranks", "questions"],
    ["hub"],
    ["conversation", "safetensors", "config", "untrusted_gguf"],
    ["recipe", "gguf", "attention", "embeddings", "kv_cache", "quantization"],
    ["vocabulary", "block", "sampling", "checkpoint"],
    ["tokenizer"],
    ["miniature", "corpus"],
    ["model", "generation"],
    ["llama", "chat", "fast.packed", "training", "evaluation", "export"],
    ["parallel", "fast.linear", "fast.tokenizer", "fast.ragged"],
    ["fast.gpt2", "fast.llama"],
    ["fast.quantized_llama"],
    ["decoding.expressions", "decoding.refusals"],
    ["decoding.pattern"],
    ["decoding.json_schema"],
    ["decoding.beam", "decoding.constrained", "decoding.speculative"],
    ["serving.pool", "serving.request"],
    ["serving.scheduler"],
    ["serving.paged"],
    ["serving.engine", "serving.text"],
    ["decoding"],
    ["serving.api", "serving.worker"],
    ["serving.metrics", "serving.security"],
    ["serving.server"],
    ["fast", "plots", "serving"],
    ["__init__"],
    ["cli"],
    ["__main__"],
]
MODULES = [module for layer in LAYERS for module in layer]
TAUGHT = [
    "miniature", "safetensors", "tokenizer", "embeddings", "attention", "block",
    "model", "sampling", "generation", "kv_cache", "gguf", "llama", "chat",
    "quantization", "parallel", "decoding.expressions", "decoding.pattern",
    "decoding.json_schema", "decoding.constrained", "decoding.beam",
    "decoding.speculative", "training", "evaluation",
]  # fmt: skip
SERVING = ["pool", "request", "scheduler", "paged", "engine"]  # printed, too
GUARDS = [
    "checks", "inputs", "untrusted", "untrusted_gguf", "vocabulary",
    "conversation", "config", "checkpoint", "layout", "hub", "transfer", "wheel",
    "ranks", "decoding.refusals", "recipe", "corpus", "questions", "loading",
]  # fmt: skip
TORCH = {
    "inputs", "safetensors", "gguf", "attention", "embeddings", "kv_cache",
    "checkpoint", "miniature", "block", "sampling", "model", "generation",
    "llama", "quantization", "fast.packed", "fast.linear", "fast.ragged", "fast.gpt2",
    "fast.llama", "fast.quantized_llama", "fast", "plots", "parallel", "ranks",
    "decoding.constrained", "decoding.beam", "decoding.speculative",
    "serving.paged", "serving.engine", "corpus", "training", "evaluation", "export",
}  # fmt: skip
THIRD_PARTIES = {
    "tokenizer": {"regex"},
    "vocabulary": {"regex"},
    "transfer": {"requests", "urllib3", "filelock", "tqdm"},
    "wheel": {"tqdm"},
    "hub": {"platformdirs"},
    "cli": {"click", "prompt_toolkit", "rich", "tqdm"},
    "plots": {"matplotlib", "myst_nb"},
    "serving.metrics": {"prometheus_client"},
    "serving.security": {"starlette"},
    "serving.server": {"starlette", "uvicorn"},
}
MAX_LINES = 25  # of code in a function of the taught path
CHECKING = (
    "checks", "inputs", "untrusted", "untrusted_gguf", "vocabulary", "conversation",
    "ranks", "refusals", "recipe", "corpus", "questions",
)  # fmt: skip
MAX_CHECKING = 0.15  # of a taught module's code: lines that check, or raise


def path_of(module: str) -> Path:
    path = SOURCE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def tree(module: str) -> ast.Module:
    return ast.parse(path_of(module).read_text(encoding="utf-8"))


def imported(module: str) -> set[str]:
    """The dotted names that a module imports, wherever in it, for types or to run."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def inner(module: str) -> set[str]:
    """The package's own modules that a module imports."""
    found = set()
    for name in imported(module):
        top, *parts = name.split(".")
        if top == "hardway":
            while parts and ".".join(parts) not in MODULES:
                parts.pop()  # what a module holds
            found.add(".".join(parts) or "__init__")
    return found


def outer(module: str) -> set[str]:
    tops = {name.split(".")[0] for name in imported(module)}
    return tops - sys.stdlib_module_names - {"hardway"}


# --- the order of the modules ---


def test_every_module_has_its_place() -> None:
    paths = {path.relative_to(SOURCE) for path in SOURCE.rglob("*.py")}
    assert paths == {path_of(module).relative_to(SOURCE) for module in MODULES}
    assert len(MODULES) == len({*MODULES})


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_downward(module: str) -> None:
    """Never from beside or above, so in no circle; what is for types alone included."""
    below: set[str] = set()
    for layer in LAYERS:
        if module in layer:
            assert inner(module) <= below
            return
        below |= {*layer}


@pytest.mark.slow
@pytest.mark.parametrize("module", [*TAUGHT, *GUARDS])
def test_nothing_taught_imports_the_fast_path(module: str) -> None:
    assert not [name for name in inner(module) if name.split(".")[0] == "fast"]


def test_generation_knows_no_model() -> None:
    assert not {"model", "config", "checkpoint"} & inner("generation")
    names = {
        node.id for node in ast.walk(tree("generation")) if isinstance(node, ast.Name)
    }
    assert "LanguageModel" in names
    assert "GPT2" not in names


@pytest.mark.parametrize("module", MODULES)
def test_third_parties(module: str) -> None:
    """Just these: what is allowed and not used would be forgotten here."""
    allowed = THIRD_PARTIES.get(module, set())
    assert outer(module) == allowed | ({"torch"} if module in TORCH else set())


@pytest.mark.parametrize("module", TAUGHT)
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


# --- what prints on a page ---


def functions(module: str) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(tree(module)):
        assert not isinstance(node, ast.AsyncFunctionDef)
        if isinstance(node, ast.FunctionDef):
            yield node


def code_lines(source: str) -> set[int]:
    """The numbers of the lines that are neither blank nor all comment."""
    silent = (
        tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT,
        tokenize.DEDENT, tokenize.ENDMARKER,
    )  # fmt: skip
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            code |= {*range(token.start[0], token.end[0] + 1)}
    return code


def span(node: ast.stmt | ast.expr) -> set[int]:
    return {*range(node.lineno, (node.end_lineno or 0) + 1)}


def lines_of_code(module: str) -> dict[str, int]:
    """Each function's lines, without its docstring, blank lines and comments."""
    code = code_lines(path_of(module).read_text(encoding="utf-8"))
    counts = {}
    for node in functions(module):
        lines = span(node) & code
        if ast.get_docstring(node) is not None:
            lines -= span(node.body[0])
        counts[node.name] = max(len(lines), counts.get(node.name, 0))
    return counts


@pytest.mark.parametrize("module", [*TAUGHT, *(f"serving.{m}" for m in SERVING)])
def test_a_function_prints_on_one_page(module: str) -> None:
    counts = lines_of_code(module)
    assert counts
    assert {name: n for name, n in counts.items() if n > MAX_LINES} == {}


def test_lines_are_counted() -> None:
    assert lines_of_code("attention")["softmax"] == 3
    assert lines_of_code("block")["gelu"] == 2


def checking_lines(source: str) -> tuple[set[int], set[int]]:
    """The lines of code that check or raise, and all.

    Docstrings and imports are neither, and to parse is not to check. A name imported
    from a module of checks is one of them as much as the module's attribute is.
    """
    code, checking, nodes = code_lines(source), set(), list(ast.walk(ast.parse(source)))
    names = {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if {*CHECKING} & {*(node.module or "").split("."), alias.name}
    }
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            code -= span(node)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if ast.get_docstring(node) is not None:
                code -= span(node.body[0])
        elif isinstance(node, ast.Raise) or (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).split(".")[0] in names
            and ".parse_" not in ast.unparse(node.func)
        ):
            checking |= span(node)
    return checking & code, code


@pytest.mark.parametrize("module", [*TAUGHT, *(f"serving.{m}" for m in SERVING)])
def test_a_taught_module_shows_more_than_checks(module: str) -> None:
    checking, code = checking_lines(path_of(module).read_text(encoding="utf-8"))
    assert len(checking) <= MAX_CHECKING * len(code)


def test_lines_that_check_are_counted() -> None:
    source = '''"""Say."""
from hardway import checks, inputs as i
from hardway.untrusted import some


def f(
    a: int,
) -> int:
    """Say."""
    # why
    a = checks.integer(
        "a", a
    )

    i.check(a)
    if a:
        raise ValueError(
            "no"
        )
    b = some(a)
    return checked(a)
'''
    checking, code = checking_lines(source)
    assert sorted(checking) == [11, 12, 13, 15, 17, 18, 19, 20]
    assert sorted(code - checking) == [6, 7, 8, 16, 21]


def members(module: ModuleType) -> dict[str, object]:
    """The public functions and classes that a module itself defines, with methods.

    A protocol's fields are left out: its own docstring says what they are.
    """
    found: dict[str, object] = {}
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
            continue
        found[name] = value
        if inspect.isclass(value):
            methods = {k: v for k, v in vars(value).items() if not k.startswith("_")}
            kinds: tuple[type, ...] = (classmethod, staticmethod)
            kinds += () if getattr(value, "_is_protocol", False) else (property,)
            found |= {
                f"{name}.{k}": v
                for k, v in methods.items()
                if inspect.isfunction(v) or isinstance(v, kinds)
            }
    return found


@pytest.mark.parametrize("module", [m for m in MODULES if not m.startswith("__")])
def test_docstrings(module: str) -> None:
    loaded = importlib.import_module(f"hardway.{module}")
    names = members(loaded)
    assert names or module in {"decoding", "serving"}  # defined in their modules
    assert loaded.__doc__
    undocumented = [name for name, value in names.items() if not inspect.getdoc(value)]
    assert undocumented == []


@pytest.mark.parametrize("module", MODULES)
def test_no_docstring_names_a_chapter(module: str) -> None:
    """Chapters move; the reference says where a function is printed."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(tree(module)) if isinstance(node, kinds)]
    told = [ast.get_docstring(node) or "" for node in nodes]
    assert not [text for text in told if re.search(r"\bchapter", text, re.IGNORECASE)]


# --- names ---


def test_names() -> None:
    assert dir(hardway) == sorted(hardway.__all__)
    for name in hardway.__all__:
        assert getattr(hardway, name) is not None
    tops = {module.split(".")[0] for module in [*TAUGHT, *GUARDS, "fast"]}
    assert tops - {"transfer", "wheel", "loading"} <= {*hardway.__all__}
    for module in TAUGHT:
        loaded = importlib.import_module(f"hardway.{module}")
        assert attrgetter(module)(hardway) is loaded
    homes = {
        "GPT2": hardway.model,
        "Chat": hardway.chat,
        "Config": hardway.config,
        "KVCache": hardway.kv_cache,
        "Llama": hardway.llama,
        "Sampler": hardway.sampling,
        "Tokenizer": hardway.tokenizer,
        **dict.fromkeys(["load", "load_tokenizer"], hardway.fast),
        "beam_search": hardway.decoding.beam,
        "speculative_generate": hardway.decoding.speculative,
        **dict.fromkeys(
            ["generate", "generate_batch", "stream", "stream_text"], hardway.generation
        ),
    }
    for name, home in homes.items():
        assert getattr(hardway, name) is getattr(home, name)
    modules = {name for name in hardway.__all__ if name in MODULES}
    assert {*hardway.__all__} == modules | homes.keys()


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match=r"'hardway' .* 'gpt3'"):
        hardway.gpt3  # noqa: B018
    assert not hasattr(hardway, "__wrapped__")


def test_the_names_of_the_fast_path() -> None:
    from hardway.fast import FastGPT2, FastLlama, FastTokenizer, gpt2, llama, tokenizer

    assert hardway.fast.FastGPT2 is FastGPT2 is gpt2.FastGPT2
    assert hardway.fast.FastLlama is FastLlama is llama.FastLlama
    assert hardway.fast.FastTokenizer is FastTokenizer is tokenizer.FastTokenizer
    assert {*hardway.fast.__all__} == {*members(hardway.fast)} | {
        "FastGPT2", "FastLlama", "FastTokenizer",
    }  # fmt: skip
    with pytest.raises(AttributeError, match=r"'hardway\.fast' .* 'FastGPT3'"):
        hardway.fast.FastGPT3  # noqa: B018
    assert not hasattr(hardway.fast, "__wrapped__")


def test_the_names_of_serving() -> None:
    from hardway.serving import Engine, Request, engine, request

    assert hardway.serving.Engine is Engine is engine.Engine
    assert hardway.serving.Request is Request is request.Request
    assert {*hardway.serving.__all__} == {"Engine", "Request"}
    with pytest.raises(AttributeError, match=r"'hardway\.serving' .* 'Motor'"):
        hardway.serving.Motor  # noqa: B018


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


INDIRECTLY = {"chat"} | {f"serving.{name}" for name in (
    "request", "scheduler", "text", "api", "worker", "metrics", "security", "server",
)}  # fmt: skip
LIGHT = [
    module for module in MODULES
    if module not in TORCH - {"fast"} | INDIRECTLY and not module.startswith("__")
]  # fmt: skip


@pytest.mark.parametrize("module", LIGHT)
def test_torch_is_imported_by_what_computes_alone(module: str) -> None:
    code = f"""
import importlib, sys
importlib.import_module("hardway.{module}")
print(sorted({{"torch", "numpy", "matplotlib"}} & {{*sys.modules}}))
"""
    assert fresh(code) == "[]\n"


@pytest.mark.slow
def test_names_are_lazy() -> None:
    code = """
import sys, hardway
assert 'torch' not in sys.modules and not dir(hardway) == []
hardway.hub.find('pocket')
assert 'torch' not in sys.modules
hardway.Tokenizer
hardway.load_tokenizer('pocket').encode('Hello')
assert 'torch' not in sys.modules
hardway.GPT2
assert 'torch' in sys.modules and 'matplotlib' not in sys.modules
assert not [name for name in sys.modules if name.startswith('hardway.fast.gpt2')]
print('lazy')
"""
    assert fresh(code) == "lazy\n"


@pytest.mark.slow
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


def test_figures_without_matplotlib_name_the_extra() -> None:
    code = """
import sys
sys.modules['matplotlib'] = None
sys.modules['matplotlib.pyplot'] = None
import hardway
for name in ('hardway.plots', 'from hardway import plots'):
    try:
        exec(name if ' ' in name else f'import {name}')
    except ImportError as error:
        assert "pip install 'hardway[plots]'" in str(error), error
        print('refused')
"""
    assert fresh(code) == "refused\nrefused\n"


def test_version() -> None:
    assert importlib.metadata.version("hardway") == hardway.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", hardway.__version__)


def test_what_is_in_the_package() -> None:
    package = importlib.resources.files("hardway")
    files = {file.name for file in package.iterdir() if file.is_file()}
    assert {name for name in files if not name.endswith(".py")} == {"py.typed"}
    pocket = package.joinpath("models", "pocket")
    assert {file.name for file in pocket.iterdir()} == {
        "config.json",
        "model.safetensors",
        "vocab.json",
        "merges.txt",
        "MODEL_CARD.md",
        "recipe.toml",
    }


def test_the_example_in_the_docstring() -> None:
    assert doctest.testmod(hardway) == (0, 5)
