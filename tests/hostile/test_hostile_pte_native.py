"""ExecuTorch programs from a stranger in the native loader: damage that reaches it never ends the process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
from altered_programs import ROOT

LOADER = """
import sys
sys.path[:0] = [{root!r}, {support!r}]
import numpy as np
import altered_programs as cases
from edge_tta.bundle.pte_inspect import inspect_pte
from edge_tta.errors import EdgeTTAError
from edge_tta.runtime.et_program import EtProgram

f = lambda *shape: np.zeros(shape, np.float32)
inputs = {{
    "text_encoder": [np.zeros((1, 5), np.int64)],
    "generator": [f(1, 7, 4), f(1), f(1), f(1, 5, 8), f(1, 8), f(1), f(1)],
    "decoder": [f(1, 7, 4)],
}}


def use(data):
    program = EtProgram("x.pte", data)
    for method in program.methods:
        try:
            program.run(method, inputs[method])
        except EdgeTTAError:
            pass
    program.close()


loaded = 0
for seed in range(1000, 1200):
    print("seed", seed, flush=True)
    data = cases.damaged(seed)
    try:
        inspect_pte("x.pte", data)
        use(data)
    except EdgeTTAError:
        continue
    loaded += 1
print("damaged", loaded)

accepted = 0
for kind in (1, 2, 20):
    position = cases.field(cases.operator(kind), 0)
    for other in range(1, 48):
        data = cases.patched(position, "B", other)
        try:
            inspect_pte("x.pte", data)
        except EdgeTTAError:
            continue
        print("operator", kind, "as", other, flush=True)
        accepted += 1
        try:
            use(data)
        except EdgeTTAError:
            pass
print("renumbered", accepted)

try:
    EtProgram("x.pte", cases.patched(cases.field(cases.operator(1), 0), "B", 200))
except EdgeTTAError as error:
    print("unknown", type(error).__name__, error)
"""


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """What a process that did all of it said, by first word; it must end well."""
    if importlib.util.find_spec("executorch") is None:
        pytest.skip("executorch is not installed")
    done = subprocess.run(
        [sys.executable, "-c", LOADER.format(root=str(ROOT), support=str(ROOT / "tests" / "support"))],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"{lines[-1:]}: signal {-done.returncode}\n{done.stderr[-2000:]}"
    return dict(line.split(" ", 1) for line in lines)


def test_damaged_programs_never_end_the_process(said: dict[str, str]) -> None:
    assert int(said["damaged"]) > 20


def test_operators_with_the_number_of_another_never_end_the_process(said: dict[str, str]) -> None:
    """Once an addition with the number of a convolution, a concatenation or a reshape did."""
    assert int(said["renumbered"]) > 5


def test_an_operator_that_xnnpack_does_not_have_is_one_line_of_the_loader_too(said: dict[str, str]) -> None:
    assert said["unknown"].startswith("BackendError executorch: x.pte was refused: ")
