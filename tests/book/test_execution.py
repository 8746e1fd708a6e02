"""What a cell prints reaches the page unbroken, and its kernel says what it ran on."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import nbformat
import psutil
import pytest
from sphinx.errors import SphinxError

from execution.facts import facts, tree_hash
from execution.running import run
from paths import EXTENSIONS, LIBRARY, REPOSITORY
from tools import audit

pytestmark = pytest.mark.slow

IN_PARTS = (
    "import time\nprint('one', end='', flush=True)\ntime.sleep(1)\nprint(' line')"
)


def notebook(code: str) -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_code_cell(code)]
    kernel = {"name": "python3", "display_name": "Python 3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the kernel client's own
def test_a_line_printed_in_parts_stays_a_line(tmp_path: Path) -> None:
    _, ran = run(tmp_path / "page.md", notebook(IN_PARTS), timeout=60)
    (cell,) = ran.cells
    assert [output.text for output in cell.outputs] == ["one line\n"]
    ran_on = ran.metadata["language_info"]["ran_on"]
    assert ran_on == facts()
    assert ran_on["library"] == tree_hash(LIBRARY)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("code", "timeout", "error"),
    [
        ("1 / 0", 60, "ZeroDivisionError"),
        ("import time; time.sleep(60)", 1, "timed out"),
        ("import os; os._exit(1)", 60, "Kernel died"),
    ],
)
def test_case_40_a_failing_cell_is_still_a_failure(
    tmp_path: Path, code: str, timeout: int, error: str
) -> None:
    with pytest.raises(SphinxError, match=error):
        run(tmp_path / "page.md", notebook(code), timeout)


HOSTILE = """<script>alert(1)</script> "onx='x' onload="alert(1) </pre><img onerror=x>
</div></article><iframe srcdoc='x'> <a href="javascript:x">x</a> &lt;b&gt;
\x1b[2J\x1b]0;title\x07 \u202e gnirts \u2066 \u200f \x00 \x9b <!-- ]]> {{ x }} $x$"""
SHOW = """
from hardway.plots import glue
from hardway.tokenizer import display
print(hostile)
print(display(hostile.encode()))
glue("hostile", hostile)
hostile
"""
SETTINGS = f"""
import sys
sys.path.append({str(EXTENSIONS)!r})
extensions = ["myst_nb", "execution"]
nb_execution_mode = "cache"
nb_execution_cache_path = "cache"
nb_execution_raise_on_error = True
nb_execution_show_tb = True
"""
KERNEL = "---\nfile_format: mystnb\nkernelspec: {name: python3}\n---\n# A page\n"


def build(directory: Path, cell: str) -> subprocess.CompletedProcess[str]:
    """Build a page with one cell as the book builds its own."""
    page = f"{KERNEL}\n```{{code-cell}}\n{cell}\n```\n\n{{glue:text}}`hostile`\n"
    return build_pages(directory, {"index": page})


def build_pages(
    directory: Path, pages: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Build pages as the book builds its own."""
    (directory / "conf.py").write_text(SETTINGS)
    for name, page in pages.items():
        (directory / f"{name}.md").write_text(page, encoding="utf-8")
    sphinx = [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going"]
    return subprocess.run(
        [*sphinx, directory, directory / "html"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_case_40_a_page_obeys_nothing_that_a_cell_prints(tmp_path: Path) -> None:
    built = build(tmp_path, f"hostile = {HOSTILE!a}{SHOW}")
    assert built.returncode == 0, built.stderr
    page = audit.parse(tmp_path / "html" / "index.html")
    article = page.select_one("[role=main]")
    faults = [
        *audit.foreign_scripts(article),
        *audit.foreign_handlers(page),
        *audit.acting_characters(page),
        *audit.unescaped_markup(article),
    ]
    assert faults == []
    printed, value = (it.get_text() for it in article.select(".output pre"))
    glued = article.select_one(".pasted-text").get_text()
    for text in (*printed.split("$x$")[:2], value, glued):
        assert "<script>alert(1)</script>" in text
        assert r"\u202e" in text


def test_case_40_a_failing_cell_fails_the_build(tmp_path: Path) -> None:
    built = build(tmp_path, "hostile = 1 / 0")
    assert built.returncode != 0
    assert "ZeroDivisionError" in built.stderr
    assert "index.md: a cell failed, as said above" in built.stderr.splitlines()[-1]
    settings = (REPOSITORY / "_config.yml").read_text(encoding="utf-8")
    assert "nb_execution_raise_on_error: true" in settings


def test_pages_run_before_they_are_read_but_what_measures_time_runs_alone(
    tmp_path: Path,
) -> None:
    page = KERNEL.replace("---\n#", "orphan: true\n---\n#")
    cell = "\n```{code-cell}\n:tags: [%s]\n6 * 7\n```\n"
    pages = {"index": page + cell % "", "other": page + (cell % "") * 2}
    pages |= dict.fromkeys(("twin", "same"), page + (cell % "") * 3)
    pages["clock"] = page + cell % "measured"
    pages["prose"] = "---\norphan: true\n---\n# No cells"
    built = build_pages(tmp_path, pages)
    assert built.returncode == 0, built.stderr
    ahead, reading, during = built.stdout.partition("reading sources")
    assert reading
    for name in ("index", "other", "same", "twin", "clock"):
        assert f"{name}.md: Using cached notebook" in during
    ran = re.findall(r"(\w+)\.md: its cells ran", ahead)
    assert len(ran) == 4  # the same cells once
    assert ran[-1] == "clock"
    again = build_pages(tmp_path, pages | {"other": pages["other"] + "\nMore.\n"})
    assert "its cells ran" not in again.stdout
    assert "42" in (tmp_path / "html" / "clock.html").read_text(encoding="utf-8")


def test_an_interrupted_build_stops_its_kernels_and_the_next_one_works(
    tmp_path: Path,
) -> None:
    (tmp_path / "slow").touch()
    cell = "import pathlib, time; time.sleep(120 * pathlib.Path('slow').exists())"
    (tmp_path / "conf.py").write_text(SETTINGS)
    page = f"{KERNEL}\n```{{code-cell}}\n{cell}\n```\n"
    (tmp_path / "index.md").write_text(page, encoding="utf-8")
    sphinx = [sys.executable, "-m", "sphinx", tmp_path, tmp_path / "html"]
    with subprocess.Popen(sphinx, cwd=tmp_path, stdout=subprocess.PIPE) as building:
        parent = psutil.Process(building.pid)
        kernels = []
        while not kernels:
            time.sleep(0.2)
            assert building.poll() is None
            kernels = parent.children()
        time.sleep(2)  # until it runs
        building.send_signal(signal.SIGINT)
        building.communicate(timeout=60)
        assert building.returncode != 0
    assert psutil.wait_procs(kernels, timeout=60)[1] == []
    (tmp_path / "slow").unlink()
    built = build_pages(tmp_path, {})
    assert built.returncode == 0, built.stderr
