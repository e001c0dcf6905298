import builtins
import os

# All tests but those of test_cuda.py are of the CPU, also of the processes that they start.
if not os.environ.get("SKDEC_TEST_CUDA"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
from hypothesis import settings

from skdec._threads import Workers

settings.register_profile("skdec", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("skdec")


@pytest.fixture
def workers():
    """The calling thread alone."""
    with Workers(1) as workers:
        yield workers


@pytest.fixture
def without(monkeypatch):
    """A function after whose call a package is as if it were not installed."""
    real_import = builtins.__import__

    def take_away(package):
        def import_others(name, *args, **kwargs):
            if name == package:
                raise ModuleNotFoundError(name)
            return real_import(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", import_others)

    return take_away
