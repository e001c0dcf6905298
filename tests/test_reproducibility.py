"""The same seed gives the same bits, and nothing outside the estimator notices a fit."""

import random
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from quick import blobs, quick
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_info

import skdec._estimator
from skdec import DECClustering
from skdec._neighborhoods import PLAIN

X, _ = blobs()

# Wide enough for several shards a batch, several threads and, where it pays, bfloat16.
WIDE = {
    "hidden_dims": (500, 500, 2000),
    "pretrain_steps": 10,
    "neighbor_steps": 10,
    "update_interval": 3,
    "max_iter": 2,
}


def global_state():
    return (
        torch.get_rng_state().tolist(),
        repr(np.random.get_state()),  # noqa: NPY002
        random.getstate(),
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_float32_matmul_precision(),
        [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()],
        warnings.filters[:],
    )


def test_int_seed_gives_the_same_bits_again():
    first, second = quick().fit(X), quick().fit(X)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    for name in ("kl_curve_", "pretrain_loss_curve_", "inertia_", "reconstruction_error_"):
        assert getattr(first, name) == getattr(second, name)


def test_another_seed_gives_another_embedding():
    assert not np.allclose(quick().fit_transform(X), quick(random_state=1).fit_transform(X))


def test_random_state_instance_moves_on_between_fits():
    model = quick(random_state=np.random.RandomState(0))
    assert not np.allclose(model.fit_transform(X), model.fit_transform(X))


def test_order_of_the_rows_does_not_matter_to_the_bit():
    order = np.random.default_rng(0).permutation(len(X))
    shuffled, model = quick().fit(X[order]), quick().fit(X)
    np.testing.assert_array_equal(shuffled.transform(X), model.transform(X))
    assert shuffled.inertia_ == model.inertia_
    assert shuffled.reconstruction_error_ == model.reconstruction_error_


def test_fit_leaves_no_trace_in_global_state():
    quick().fit(X)  # imports and thread pools that come with the first fit
    before = global_state()
    quick(batch_norm=True, pretraining="layer-wise").fit(X).score(X)
    assert global_state() == before


def test_concurrent_fits_are_those_of_one_after_the_other_and_leave_no_trace():
    expected = [quick(random_state=seed).fit_transform(X) for seed in range(6)]
    before = global_state()
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda seed: quick(random_state=seed).fit_transform(X), range(6)))
    assert global_state() == before
    np.testing.assert_array_equal(found, expected)


_FIT_DIGITS = """
import hashlib
import torch
{before}
from sklearn.datasets import load_digits
import skdec._self_training
from skdec import DECClustering
# After so little training it takes all rounds to follow a partition, and more of them tell no more.
skdec._self_training._MOST_HELD_ROUNDS = 0
X = load_digits().data[:900]
in_bfloat16 = skdec._backend._multiplies_in_bfloat16(torch.device("cpu"))
for precision in ("bfloat16", "float32") if in_bfloat16 else ("float32",):
    model = DECClustering(
        10, random_state=0, tol=1.1, n_init=3, precision=precision, **{settings}
    ).fit(X)
    print(hashlib.sha256(model.predict_proba(X).tobytes()).hexdigest(), model.score(X))
"""


def test_number_of_threads_does_not_change_a_bit(monkeypatch):
    printed = []
    for environment, before in (
        ("1", ""),
        ("2", ""),
        ("2", "torch.set_num_threads(1)"),
        ("1", "torch.set_num_threads(3)"),
    ):
        monkeypatch.setenv("OMP_NUM_THREADS", environment)
        code = _FIT_DIGITS.format(settings=WIDE, before=before)
        command = [sys.executable, "-c", code]
        printed.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(set(printed)) == 1 and printed[0]


def test_parallel_grid_search_returns_the_model_that_it_scored():
    X = load_digits().data[:600]
    everything = [(np.arange(len(X)), np.arange(len(X)))]
    # Named, since after so little training it takes long to follow another partition.
    estimator = DECClustering(random_state=0, tol=1.1, init="k-means++", n_init=2, **WIDE)
    search = GridSearchCV(estimator, {"n_clusters": [5, 10]}, cv=everything, n_jobs=2).fit(X)
    assert search.best_estimator_.score(X) == search.best_score_


# With two clusters for three blobs.
@pytest.mark.filterwarnings("ignore:Self-training made the clusters agree less")
def test_memory_pretrains_once_for_a_sweep_over_n_clusters(tmp_path, monkeypatch):
    calls = []
    pretrain = skdec._estimator.pretrain

    class Memory:
        """The interface of joblib.Memory: equal arguments are computed once."""

        def __init__(self):
            self.results = {}

        def cache(self, function, ignore):
            def cached(*args, **kwargs):
                key = repr([args, {k: v for k, v in kwargs.items() if k not in ignore}])
                if key not in self.results:
                    calls.append(key)
                    self.results[key] = function(*args, **kwargs)
                return self.results[key]

            return cached

    memory = Memory()
    for n_clusters in (2, 3, 4):
        model = quick(n_clusters, memory=memory).fit(X)
        plain = quick(n_clusters).fit(X)
        np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(X))
    assert len(calls) == 1
    quick(memory=memory, pretrain_steps=31).fit(X)
    assert len(calls) == 2
    assert pretrain is skdec._estimator.pretrain


def test_rows_that_tell_where_neighbors_are_sought_do_not_depend_on_n_clusters(monkeypatch):
    seen = []

    def neighborhoods(rows, at, *args):
        seen.append(rows(at))
        return PLAIN

    monkeypatch.setattr(skdec._estimator, "neighborhoods", neighborhoods)
    monkeypatch.setattr("skdec._initialization._MOST_ROWS", 20)
    for n_clusters in (3, 4):  # more than 20 rows are judged, and not as many
        quick(n_clusters, init="k-means++").fit(X)
    np.testing.assert_array_equal(*seen)


def test_memory_on_disk_gives_the_same_model(tmp_path):
    expected = quick().fit(X).predict_proba(X)
    for _ in range(2):
        found = quick(memory=str(tmp_path)).fit(X).predict_proba(X)
        np.testing.assert_array_equal(found, expected)
    assert any(tmp_path.rglob("output.pkl"))
