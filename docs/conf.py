"""Sphinx: how the documentation is built from docstrings, pages and examples."""

from __future__ import annotations

import zlib
from pathlib import Path

from sphinx_gallery.sorting import ExplicitOrder

import skdec

project = "skdec"
author = "The skdec developers"
copyright = author
version = release = skdec.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "py:obj"
html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
}
html_title = f"skdec {release}"
# At the left, pages below this one: these have none.
html_sidebars = {page: [] for page in ("index", "installation", "guide", "migration")}
html_show_sourcelink = False
toc_object_entries_show_parents = "hide"

# Pages of the API name their own members; the templates do what numpydoc would do twice.
numpydoc_show_class_members = False

# From the first steps to special uses; a file that is missing here fails a test.
EXAMPLES = [
    "plot_kmeans_drop_in.py",
    "plot_digits.py",
    "plot_customers.py",
    "plot_text.py",
    "plot_single_cell.py",
    "plot_n_clusters.py",
    "plot_imbalanced.py",
    "plot_few_labels.py",
    "plot_anomalies.py",
    "plot_serving.py",
    "plot_paper.py",
]
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "within_subsection_order": ExplicitOrder(EXAMPLES),
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skdec",),
    "capture_repr": (),
    "log_level": {"backreference_missing": "info"},
    "show_signature": False,
    "remove_config_comments": True,
    "write_computation_times": False,
}


def empty_inventory() -> str:
    """A file that knows no object: without a network, names of other projects are plain words."""
    path = Path(__file__).parent / "generated" / "empty.inv"
    path.parent.mkdir(exist_ok=True)
    header = "# Sphinx inventory version 2\n# Project: none\n# Version: 0\n"
    compressed = "# The remainder of this file is compressed using zlib.\n"
    path.write_bytes((header + compressed).encode() + zlib.compress(b""))
    return str(path)


intersphinx_mapping = {
    name: (address, (None, empty_inventory()))
    for name, address in {
        "python": "https://docs.python.org/3",
        "numpy": "https://numpy.org/doc/stable",
        "sklearn": "https://scikit-learn.org/stable",
        "torch": "https://docs.pytorch.org/docs/stable",
    }.items()
}
intersphinx_timeout = 5
