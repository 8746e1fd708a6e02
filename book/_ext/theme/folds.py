"""Fold cells: answers to *Predict* boxes, assertions, and imports.

The first cells after a *Predict* box are folded together with their outputs, because
code can give the answer away. Cells that only assert, or only import and load the
model, collapse to one line. In print all are open.
"""

import ast
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx

PREDICT = "Predict"
RESULT = "Run it: the code, and what comes out"
LOADING = ("('auto')", "model.config")


def fold(app: Sphinx, doctree: nodes.document) -> None:
    """Set the cells that MyST-NB folds, and their summary lines."""
    for cell, after_question in cells(doctree):
        if has_output(cell):
            if after_question:
                mark(cell, "all", RESULT)
        elif line := in_a_line(cell[0].astext(), after_question):
            mark(cell, "input", line)


def cells(doctree: nodes.document) -> Iterator[tuple[nodes.container, bool]]:
    """Yield each cell, and whether it answers a *Predict* box.

    The first cell with output after the box does, and those directly after it.
    """
    for section in doctree.findall(nodes.section):
        asked = answering = False
        for node in section.children:
            if is_cell(node):
                yield node, asked or answering
                if has_output(node):
                    answering, asked = asked or answering, False
            else:
                answering = False
                asked |= is_prediction(node)


def is_cell(node: nodes.Node) -> bool:
    """Return whether a node is a code cell with its code shown."""
    return (
        isinstance(node, nodes.container)
        and node.get("nb_element") == "cell_code"
        and node[0].get("nb_element") == "cell_code_source"
    )


def is_prediction(node: nodes.Node) -> bool:
    """Return whether a node is a *Predict* box."""
    return isinstance(node, nodes.Admonition) and node[0].astext() == PREDICT


def has_output(cell: nodes.container) -> bool:
    """Return whether a cell has output."""
    parts = (part for part in cell.children if isinstance(part, nodes.Element))
    return any(part.get("nb_element") == "cell_code_output" for part in parts)


def in_a_line(code: str, after_question: bool = False) -> str:
    """Return the summary line of a cell without output, or "" to leave it open.

    After a question, whatever else a cell does, an assertion in it gives the answer.
    """
    try:
        statements = ast.parse(code).body
    except SyntaxError:  # an IPython magic
        return ""
    if not statements:
        return ""
    n = sum(is_check(node) for s in statements for node in ast.walk(s))
    if n and (after_question or all(map(only_checks, statements))):
        return f"Checked here: {n} assertion{'s' * (n > 1)}"
    if all(map(is_import, statements)):
        return "What this page imports"
    if all(is_import(s) or loads(s) for s in statements) and is_import(statements[0]):
        return "What this page imports and loads"
    return ""


def only_checks(statement: ast.stmt) -> bool:
    """Return whether a statement only asserts or glues."""
    if isinstance(statement, ast.For | ast.If | ast.With):
        return all(map(only_checks, statement.body + getattr(statement, "orelse", [])))
    call = statement.value if isinstance(statement, ast.Expr) else None
    return is_check(statement) or is_check(call) or called(call) == "plots.glue"


def is_import(statement: ast.stmt) -> bool:
    """Return whether a statement is an import."""
    return isinstance(statement, ast.Import | ast.ImportFrom)


def loads(statement: ast.stmt) -> bool:
    """Return whether a statement loads the model or its config."""
    if not isinstance(statement, ast.Assign):
        return False
    return ast.unparse(statement.value).endswith(LOADING)


def is_check(node: ast.AST | None) -> bool:
    """Return whether a node is an assertion."""
    return isinstance(node, ast.Assert) or called(node) == "torch.testing.assert_close"


def called(node: ast.AST | None) -> str:
    """Return the name that a node calls, or ""."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def mark(cell: nodes.container, what: str, line: str) -> None:
    """Have MyST-NB fold a part of the cell below a summary line."""
    cell["hide_mode"], cell["prompt_show"], cell["prompt_hide"] = what, line, line
