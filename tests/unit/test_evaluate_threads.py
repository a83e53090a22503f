"""A bound on threads holds for every pool there is, and needs no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import scipy.linalg  # noqa: F401
import torch
from threadpoolctl import threadpool_info

from edge_tta.evaluate.threads import bounded_threads

FRESH = """
import json, sys
sys.modules["torch"] = None
from threadpoolctl import threadpool_info
from edge_tta.evaluate.threads import bounded_threads
with bounded_threads(1):
    import numpy.linalg, scipy.linalg
    found = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
print(json.dumps(found))
"""


def test_libraries_that_come_later_are_bounded_too_and_torch_may_be_absent() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", FRESH], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout).values()) == {1}, done.stdout


def pools() -> dict[str, int]:
    """Threads by library, torch's own count among them."""
    return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()} | {
        "torch": torch.get_num_threads()
    }


def test_all_pools_are_afterwards_as_before() -> None:
    before = pools()
    with pytest.raises(ZeroDivisionError), bounded_threads(3):
        assert set(pools().values()) == {3}
        raise ZeroDivisionError
    assert pools() == before
