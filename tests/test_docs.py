"""The documentation names all there is to name, and its short code runs.

The examples themselves are run by the build of the documentation.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest
from quick import blobs, quick

import skdec

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SUBMODULES = [module.name for module in pkgutil.iter_modules(skdec.__path__)]
PUBLIC = ["skdec", *(f"skdec.{name}" for name in SUBMODULES if not name.startswith("_"))]


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_in_the_api_reference(module):
    _, *sections = re.split(r"\.\. currentmodule:: (\S+)", (DOCS / "api.rst").read_text())
    listed = dict(zip(sections[::2], map(str.split, sections[1::2]), strict=True))
    public = set(importlib.import_module(module).__all__) - {"__version__"}
    assert public and public - set(listed[module]) == set()


def test_contributors_are_told_what_each_module_does():
    table = (ROOT / "CONTRIBUTING.md").read_text()
    for name in SUBMODULES:
        is_package = (ROOT / "skdec" / name).is_dir()
        assert f"`{name}/`" in table if is_package else f"`{name}.py`" in table, name


def test_extras_are_in_the_installation_page():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (DOCS / "installation.rst").read_text()
    assert set(project["optional-dependencies"]) == set(re.findall(r"\* - ``(\w+)``", page))


@pytest.mark.parametrize("page", ["guide.rst", "migration.rst"])
def test_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, _ = blobs()
    names = {"__name__": "page", "X": X, "dec": quick().fit(X)}
    blocks = re.findall(r"code-block:: python\n\n((?:(?:   .*)?\n)+)", (DOCS / page).read_text())
    assert blocks
    for block in blocks:
        if "callback" in block and not hasattr(skdec.DECClustering, "set_callbacks"):
            continue  # scikit-learn before 1.9
        exec(compile(dedent(block), page, "exec"), names)
    assert len(names) > 3
