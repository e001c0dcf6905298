"""The package as a stranger meets it: README, continuous integration, versions, import."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.version import Version
from sklearn.exceptions import ConvergenceWarning

import skdec

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.filterwarnings("ignore", category=ConvergenceWarning)
def test_python_of_the_readme_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["search"].best_params_["n_clusters"] in (2, 3, 4)
    assert names["prototypes"].shape == (3, 4)


def test_continuous_integration_runs_the_test_command_of_the_readme():
    command = next(block.strip() for block in blocks("bash") if "pytest" in block)
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_files_that_the_readme_names_exist():
    for name in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / name).exists(), name


def test_version_is_the_same_everywhere():
    assert f"## {skdec.__version__} " in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {skdec.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_every_dependency_is_pinned_for_continuous_integration():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] + sum(project["optional-dependencies"].values(), [])
    direct, _ = (ROOT / "constraints.txt").read_text().split("\n\n")
    pinned = re.findall(r"^([\w-]+)==", direct, flags=re.MULTILINE)
    assert {re.match(r"[\w-]+", line)[0] for line in needed} == set(pinned)


def test_the_oldest_versions_that_are_tested_are_those_that_the_metadata_allow():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["test"]
    oldest = re.findall(r"^([\w-]+)==(.+)$", (ROOT / "constraints-oldest.txt").read_text(), re.M)
    bounds = dict(re.match(r"([\w-]+)(?:\[.*\])?>=(.+)", line).groups() for line in needed)
    assert dict(oldest).keys() == bounds.keys()
    for name, version in oldest:
        if name != "torch":
            assert Version(version) == Version(bounds[name]), name


def test_import_brings_in_nothing_optional():
    optional = {"dask", "distributed", "matplotlib", "onnx", "onnxscript", "polars"}
    code = f"import sys, skdec; print(sorted({optional} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_public_names_are_documented_with_all_their_parameters():
    doc = skdec.DECClustering.__doc__
    for name in skdec.DECClustering().get_params():
        assert re.search(rf"^    {name} : ", doc, flags=re.MULTILINE), name


def test_every_benchmark_finds_what_it_imports():
    # They reach into the package, and nobody runs them all after a change.
    code = (
        "import importlib, pathlib, sys\n"
        "sys.modules.update(dict.fromkeys(('clustpy', 'h5py', 'umap')))\n"  # not installed
        "for path in sorted(pathlib.Path.cwd().glob('*.py')):\n"
        "    print(importlib.import_module(path.stem).__doc__.splitlines()[0])\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "benchmarks",
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) == len(list((ROOT / "benchmarks").glob("*.py"))) > 10
