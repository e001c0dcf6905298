"""The documentation names all there is to name, and its short code runs.

The examples themselves are run by the build of the documentation.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
from quick import blobs, quick

import skdec

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def public_names():
    modules = [module.name for module in pkgutil.iter_modules(skdec.__path__)]
    for module in ["skdec", *(f"skdec.{name}" for name in modules if not name.startswith("_"))]:
        for name, thing in vars(importlib.import_module(module)).items():
            documented = inspect.isclass(thing) or inspect.isfunction(thing)
            if documented and not name.startswith("_") and thing.__module__.startswith("skdec"):
                if module != "skdec" or name in skdec.__all__:
                    yield module, name, thing


def test_public_names_are_in_the_api_reference():
    sections = re.split(r"\.\. currentmodule:: (\S+)", (DOCS / "api.rst").read_text())
    listed = dict(zip(sections[1::2], map(str.split, sections[2::2]), strict=True))
    own = [(module, name) for module, name, thing in public_names() if is_from(thing, module)]
    assert ("skdec", "DECClustering") in own and ("skdec.metrics", "stability") in own
    assert [(module, name) for module, name in own if name not in listed.get(module, [])] == []


def is_from(thing, module):
    """Whether `module` is where a user gets `thing` from."""
    return module == "skdec" or thing.__module__ == module


@pytest.mark.parametrize("page", ["guide.rst", "migration.rst"])
def test_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, _ = blobs()
    names = {"__name__": "page", "X": X, "dec": quick().fit(X)}
    blocks = re.findall(r"code-block:: python\n\n((?:(?:   .*)?\n)+)", (DOCS / page).read_text())
    assert len(blocks) > 2
    for block in blocks:
        exec(compile(inspect.cleandoc(block), page, "exec"), names)
