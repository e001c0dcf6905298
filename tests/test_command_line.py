"""python -m skdec: the table, the files, the errors and the exit codes."""

import csv
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick import blobs
from sklearn.datasets import load_iris

from skdec import __version__
from skdec.__main__ import main

IRIS = load_iris(as_frame=True).frame


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def labels_of(path):
    with open(path) as file:
        return [int(row["label"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("form", ["csv", "npz", "parquet"])
def test_table_with_known_labels_is_clustered_compared_and_drawn(form, capsys, tmp_path):
    X, y = IRIS.drop(columns="target"), IRIS["target"]
    if form == "csv":
        IRIS.to_csv("iris.csv", index=False)
    elif form == "parquet":
        IRIS.to_parquet("iris.parquet")
    else:
        np.savez("iris.npz", X=X, target=y)
    command = [f"iris.{form}", "--n-clusters", "3", "--labels", "target", "--standardize"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "iris: 150 rows, 4 features, 3 clusters" in out
    assert "self-training: round 1/" in out
    table = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()}
    assert [float(value) > 0.5 for value in table["DECClustering"][:3]] == [True] * 3
    assert float(table["KMeans"][2]) == pytest.approx(0.62, abs=0.01)
    assert sorted(set(labels_of("iris-labels.csv"))) == [0, 1, 2]
    assert (tmp_path / "iris-embedding.png").read_bytes().startswith(b"\x89PNG")


def test_numbers_without_header_or_labels(capsys, tmp_path):
    X, _ = blobs()
    np.savetxt("rows.csv", X, delimiter=",")
    np.save("rows.npy", X)
    for name in ("rows.csv", "rows.npy"):
        command = [name, "--n-clusters", "3", "--quiet", "--output", "out.csv", "--no-picture"]
        assert main(command) == 0
        out = capsys.readouterr().out
        assert "score" in out and "NMI" not in out and "round" not in out
        assert len(labels_of("out.csv")) == 90
    assert not list(tmp_path.glob("*.png"))


def test_without_a_file_the_digits_are_clustered(capsys, monkeypatch):
    from sklearn.datasets import load_digits

    digits = load_digits()
    digits.data, digits.target = digits.data[:150], digits.target[:150]
    monkeypatch.setattr("skdec.__main__.load_digits", lambda: digits)
    assert main(["--quiet"]) == 0
    captured = capsys.readouterr()
    assert "digits: 150 rows, 64 features, 10 clusters" in captured.out
    assert "accuracy       NMI       ARI" in captured.out
    assert "picture: digits-embedding.png" in captured.out


def test_without_matplotlib_all_but_the_picture_works(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    X, _ = blobs()
    np.save("rows.npy", X)
    assert main(["rows.npy", "--n-clusters", "3", "--quiet"]) == 0
    assert "no picture: matplotlib is needed" in capsys.readouterr().out
    assert len(labels_of("rows-labels.csv")) == 90


@pytest.mark.parametrize(
    ("name", "content", "more", "words"),
    [
        ("no.csv", None, [], "No such file"),
        ("a.txt", "1,2", [], "FILE must end in one of .csv"),
        ("a.csv", "", [], "a.csv is empty"),
        ("a.csv", "x,y\n1,2\n3,red\n", [], "column 'y' has the value 'red'"),
        ("a.csv", "x,y\n1,2\n3\n", [], "row 2 has 1 values, expected 2"),
        ("a.csv", "x,y\n1,2\n3,4\n", ["--labels", "z"], "--labels 'z' is none of"),
        ("a.csv", "x,y\n1,2\n3,nan\n", [], "contains NaN"),
        ("a.csv", "x,x\n1,2\n3,4\n", [], "two columns of one name, in ['x', 'x']"),
        ("a.csv", ",x,y\n0,1,2\n1,3,4\n", [], "column 1 has no name"),
        ("a.csv", "x,y\n", [], "a.csv: no rows"),
        ("a.csv", "x\n1\n2\n", ["--labels", "x"], "no columns besides the labels"),
        ("a.csv", "1,2,red\n3,4,blue\n", [], "column '2' has the value 'red'"),
        ("a.npz", "", [], "a.npz is not a file of numpy's"),
        (
            "a.csv",
            "x,y\n1,2\n3,4\n",
            ["--n-clusters", "5"],
            "n_samples=2 should be >= n_clusters=5",
        ),
        ("a.csv", "x,y\n1,2\n3,4\n", ["--device", "abacus"], "'abacus'"),
        ("a.csv", "x\n" + "1" * 200_000, [], "field larger than field limit"),
        ("a.npy", "nothing numpy wrote", [], "a.npy is not a file of numpy's"),
    ],
)
def test_wrong_input_is_told_in_one_line_with_code_2(name, content, more, words, capsys, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main([name, "--n-clusters", "2", "--quiet", *more]) == 2
    message = capsys.readouterr().err
    assert message.startswith("skdec: error: ") and words in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("header", ["a,b", "0,1"])
def test_header_is_not_a_row(header, encoding, capsys, tmp_path):
    rows = "\n".join([header, "1,2", "3,4", "9,9"])
    (tmp_path / "a.csv").write_text(rows, encoding=encoding)
    assert main(["a.csv", "--n-clusters", "2", "--quiet", "--no-picture"]) == 0
    assert "a: 3 rows, 2 features" in capsys.readouterr().out


def test_labels_of_another_length_and_missing_folders_are_refused_before_any_work(capsys):
    np.savez("a.npz", X=blobs()[0], y=np.zeros(3))
    assert main(["a.npz", "--n-clusters", "3", "--labels", "y"]) == 2
    assert "--labels 'y' has shape (3,), expected (90,)" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["a.npz", "--n-clusters", "3", "--output", "nowhere/labels.csv"])
    assert "nowhere is not a folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["a.npz", "--n-clusters", "3", "--picture", "."])
    assert ". is a folder" in capsys.readouterr().err


def test_damaged_arrays_are_refused(capsys):
    np.savez_compressed("a.npz", X=blobs()[0])
    content = bytearray(Path("a.npz").read_bytes())
    content[len(content) // 2] ^= 255
    Path("a.npz").write_bytes(content)
    assert main(["a.npz", "--n-clusters", "3"]) == 2
    assert "a.npz is damaged" in capsys.readouterr().err


def test_zero_clusters_are_refused(capsys):
    np.save("a.npy", blobs()[0])
    assert main(["a.npy", "--n-clusters", "0"]) == 2
    assert "'n_clusters' parameter" in capsys.readouterr().err


def test_labels_of_no_file_are_refused(capsys):
    assert main(["--labels", "y"]) == 2
    assert "--labels 'y' needs a FILE" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--n-clusters", "auto"]])
def test_without_a_number_of_clusters_it_is_found(more, capsys):
    X, y = blobs(centers=4, n_samples=200)
    np.savez("rows.npz", X=X, y=y)
    assert main(["rows.npz", "--labels", "y", "--quiet", "--no-picture", *more]) == 0
    out = capsys.readouterr().out
    assert "rows: 200 rows, 5 features\n" in out
    assert "clusters found: 4\ncluster sizes: 50 50 50 50" in out
    table = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.split()}
    assert table["DECClustering"][2] == table["KMeans"][2] == "1.000"


def test_a_number_of_clusters_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["a.csv", "--n-clusters", "many"])
    assert stop.value.code == 2
    assert "argument --n-clusters: invalid" in capsys.readouterr().err


def test_help_and_version(capsys):
    for option, words in (("--help", "--n-clusters K"), ("--version", __version__)):
        with pytest.raises(SystemExit) as stop:
            main([option])
        assert stop.value.code == 0
        assert words in capsys.readouterr().out


def test_interruption_ends_with_code_1(capsys, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("skdec.__main__._cluster", interrupt)
    assert main([]) == 1
    assert "interrupted" in capsys.readouterr().err


def test_labels_are_never_clustered(capsys):
    frame = pd.DataFrame(blobs()[0], columns=list("abcde"))
    frame["known"] = 1000.0 * np.arange(90)
    frame.to_csv("a.csv", index=False)
    assert main(["a.csv", "--n-clusters", "3", "--labels", "known", "--quiet", "--no-picture"]) == 0
    assert "90 rows, 5 features" in capsys.readouterr().out
