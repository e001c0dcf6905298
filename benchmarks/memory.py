"""How much memory a fit takes whose rows lie in a file: images of 28 x 28 bytes in a memory map.

For each number of rows a process of its own fits to a file written for it. What counts is its
anonymous memory, at most, less what importing torch and skdec takes; pages of the file that the
system keeps in memory while nobody else needs it are not the fit's. Linux only.

    python benchmarks/memory.py --rows 20000 60000 1000000 [--data DIR]

With `--data` they are made from MNIST's, of which rows at borders of clusters are moved.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from datasets import load
from machine import describe_machine
from numpy.lib.format import open_memmap
from scaling import images

N_FEATURES, N_CLUSTERS, BLOCK = 784, 10, 10_000

# The fit, in a process of its own. It says when the imports are done, and what was found.
FIT = """
import sys
import numpy as np
from skdec import DECClustering

path, params = sys.argv[1], dict(item.split("=") for item in sys.argv[2:])
print("imported", flush=True)
sys.stdin.readline()
params = {name: int(value) for name, value in params.items()}
X = np.load(path, mmap_mode="r")
model = DECClustering(random_state=0, **params).fit(X)
print(np.unique(model.labels_).size, flush=True)
"""


def write_images(path: Path, n_rows: int) -> None:
    """Noisy images of ten kinds, block by block."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 256, (N_CLUSTERS, N_FEATURES))
    X = open_memmap(path, mode="w+", dtype=np.uint8, shape=(n_rows, N_FEATURES))
    for start in range(0, n_rows, BLOCK):
        shape = X[start : start + BLOCK].shape
        noisy = kinds[rng.integers(N_CLUSTERS, size=shape[0])]
        noisy = noisy + rng.normal(0.0, 60.0, shape)
        X[start : start + BLOCK] = np.clip(noisy, 0, 255)
    X.flush()


def anonymous_memory(pid: int) -> int:
    """Bytes of a process that are of no file; 0 when it has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def measure(path: Path, params: list[str]) -> tuple[int, int, float]:
    """Anonymous bytes after the imports, at most in the fit beyond these, and its seconds."""
    command = [sys.executable, "-c", FIT, str(path), *params]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        imported = most = anonymous_memory(process.pid)
        started = time.perf_counter()
        process.stdin.write("go\n")
        process.stdin.close()
        while process.poll() is None:
            most = max(most, anonymous_memory(process.pid))
            time.sleep(0.01)
        seconds = time.perf_counter() - started
        if process.returncode:
            raise SystemExit("The fit has failed.")
    return imported, most - imported, seconds


def main() -> None:
    """Print a table with a line for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--folder", type=Path, help="where to write the files")
    parser.add_argument("--data", type=Path, help="folder with mnist.npz, for images like those")
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="PARAMETER=INT",
        help="parameters other than the defaults; fewer steps take less time, not less memory",
    )
    args = parser.parse_args()
    print(describe_machine())
    print("| rows | data | imports | fit beyond imports | a row | seconds |")
    print("|---:|---:|---:|---:|---:|---:|")
    for n_rows in args.rows:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            path = Path(folder) / "images.npy"
            if args.data:
                np.save(path, images(load("mnist", args.data)[0], n_rows))
            else:
                write_images(path, n_rows)
            params = [f"n_clusters={N_CLUSTERS}", *args.set]
            imported, extra, seconds = measure(path, params)
            size = path.stat().st_size
        print(
            f"| {n_rows:,} | {size / 1e6:,.0f} MB | {imported / 1e6:,.0f} MB "
            f"| {extra / 1e6:,.0f} MB | {extra / n_rows:,.0f} bytes | {seconds:,.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
