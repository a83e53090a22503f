"""What goes wrong in a loaded ExecuTorch program, with a stand-in for the native method."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from edge_tta.errors import BackendError
from edge_tta.runtime.et_program import EtProgram


class Failing:
    def __init__(self, message: str) -> None:
        self.message = message

    def execute(self, _: list[Any]) -> None:
        raise RuntimeError(self.message)


@pytest.mark.parametrize(
    ("message", "shown"), [("bad shape\nand a page more", "bad shape"), ("", "RuntimeError")]
)
def test_a_failure_is_one_line_also_without_a_message(message: str, shown: str) -> None:
    pytest.importorskip("torch")
    program = EtProgram.__new__(EtProgram)
    program._running = threading.Lock()
    program._methods = {"decoder": Failing(message)}
    with pytest.raises(BackendError) as caught:
        program.run("decoder", [np.zeros(1, np.float32)])
    assert str(caught.value) == f"executorch: decoder failed: {shown}"
