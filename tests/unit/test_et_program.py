"""What goes wrong in a loaded ExecuTorch program, with a stand-in for the native method."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_tta.bundle import Bundle
from edge_tta.errors import BackendError
from edge_tta.runtime.et_program import _POOL, EtProgram

TINY = Path(__file__).parents[1] / "golden" / "edge-tiny-executorch"


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
    program._running = threading.RLock()
    program._methods = {"decoder": Failing(message)}
    with pytest.raises(BackendError) as caught:
        program.run("decoder", [np.zeros(1, np.float32)])
    assert str(caught.value) == f"executorch: decoder failed: {shown}"


def test_a_signal_handler_may_close_what_its_own_thread_runs() -> None:
    """Handlers run in the thread that was interrupted, when the native call returns: its locks are held."""
    pytest.importorskip("executorch")
    bundle = Bundle.open(TINY)
    (file,) = {stage.file: stage for stage in bundle.variants["et-xnnpack-int8"].stages.values()}.values()
    program = EtProgram(file.file, bundle.read(file))
    other = EtProgram(file.file, bundle.read(file))
    native = program._methods["text_encoder"]
    found: list[Any] = []

    class Interrupted:
        def execute(self, tensors: list[Any]) -> Any:
            outputs = native.execute(tensors)
            with _POOL.lock:
                other.close()
            program.close()
            return outputs

    expected = program.run("text_encoder", [np.ones((1, 4), np.int64)])
    program._methods["text_encoder"] = Interrupted()
    caller = threading.Thread(
        target=lambda: found.extend(program.run("text_encoder", [np.ones((1, 4), np.int64)])), daemon=True
    )
    caller.start()
    caller.join(20)
    assert not caller.is_alive(), "it waits for itself"
    np.testing.assert_array_equal(found[0], expected[0])
    with pytest.raises(BackendError, match="closed"):
        program.run("text_encoder", [np.ones((1, 4), np.int64)])
