"""What can be said of the examples without running them; the documentation's build does that."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def imported(tree):
    """Each module, and the name taken from it or None, that a script imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


def test_every_example_is_listed_once():
    conf = ast.parse((ROOT / "docs" / "conf.py").read_text())
    listed = next(
        ast.literal_eval(node.value)
        for node in conf.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "EXAMPLES"
    )
    assert sorted(listed) == [path.name for path in EXAMPLES]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_has_a_title_compiles_and_imports_what_exists(path):
    source = path.read_text()
    tree = ast.parse(source)
    compile(tree, path.name, "exec")
    title, rule, text = ast.get_docstring(tree).split("\n", maxsplit=2)
    assert rule == "=" * len(title) and text.strip()
    for module, name in imported(tree):
        assert name is None or hasattr(importlib.import_module(module), name), (module, name)
        importlib.import_module(module)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short_and_seeded(path):
    code = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert len(code) < 70
    assert "random_state=0" in path.read_text()


def test_pages_lead_to_every_example():
    pages = "".join(path.read_text() for path in (ROOT / "docs").glob("*.rst"))
    named = re.findall(r"sphx_glr_gallery_(plot_\w+\.py)", pages)
    assert set(named) == {path.name for path in EXAMPLES}
