"""A loaded ExecuTorch program: methods on arrays, and one pool of threads for the whole process.

ExecuTorch has a single pool of threads per process, and what is loaded keeps a pointer to it. So the pool is resized
only while nothing is loaded here, and a second program with another number of threads is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tta.errors import BackendError, MissingExtraError
from edge_tta.runtime.failures import first_line
from edge_tta.runtime.imports import import_failures
from edge_tta.runtime.memory import give_back_freed_memory
from edge_tta.runtime.native_log import native_log


class _Pool:
    """The process's pool of threads and how many programs hold it."""

    def __init__(self) -> None:
        # Re-entrant, as the handler of a signal may close a program while its thread loads or runs one.
        self.lock = threading.RLock()
        self.users = 0

    def enter(self, native: ModuleType, threads: int) -> None:
        """Take part in the pool; ``lock`` is held.

        Raises:
            BackendError: programs are loaded with another number of threads.
        """
        size = native._threadpool_get_thread_count()
        if size != threads:
            if self.users:
                raise BackendError(
                    f"executorch: {threads} threads were asked for, but its one pool for the whole process has {size} "
                    f"and is in use; ask for {size}, or close what is open"
                )
            native._unsafe_reset_threadpool(threads)
        self.users += 1


_POOL = _Pool()


def import_runtime() -> ModuleType:
    """The native runtime with XNNPACK in it.

    Raises:
        MissingExtraError: executorch is not installed.
        BackendError: it cannot be imported, or was built without XNNPACK.
    """
    absent = MissingExtraError("executorch", "the executorch backend")
    # What brings executorch also brings packages that warn of each other.
    with (
        import_failures("executorch", ("executorch", "torch"), absent),
        native_log("torchao", "torch.utils._pytree"),
    ):
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime
    if not Runtime.get().backend_registry.is_available("XnnpackBackend"):
        raise BackendError("executorch: this build has no XNNPACK; install the package from PyPI")
    native: ModuleType = portable_lib
    return native


class EtProgram:
    """A program in memory with all its methods loaded. Calls may come from any thread; they wait for each other.

    Args:
        name: file name for messages.
        data: the whole ``.pte`` file.
        threads: threads of a method; None takes the pool as it is.

    Raises:
        MissingExtraError: executorch is not installed.
        BackendError: ExecuTorch refuses the file, or its pool is in use with another number of threads.
    """

    def __init__(self, name: str, data: bytes, threads: int | None = None) -> None:
        native = import_runtime()
        from executorch.runtime import Runtime

        self.name = name
        self._running = threading.RLock()
        self._methods: dict[str, Any] = {}
        self._program: Any = None
        lines: list[str] = []
        with _POOL.lock:
            try:
                with native_log() as lines:
                    _POOL.enter(native, threads or native._threadpool_get_thread_count())
                    try:
                        # Checks the structure of the file before anything is taken from it.
                        self._program = Runtime.get().load_program(data)
                        for method in sorted(self._program.method_names):
                            self._methods[method] = self._program.load_method(method)
                    except BaseException:
                        self._methods, self._program = {}, None
                        _POOL.users -= 1
                        raise
            except BackendError:
                raise
            except Exception as error:  # the binding raises RuntimeError and whatever C++ throws
                reason = lines[-1][:300] if lines else first_line(error)
                raise BackendError(f"executorch: {name} was refused: {reason}") from None

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, in alphabetical order."""
        return tuple(self._methods)

    def shapes(self, method: str) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """Largest shapes of a method's inputs and outputs, in order."""
        meta = self._methods[method].metadata
        inputs = [tuple(meta.input_tensor_meta(index).sizes()) for index in range(meta.num_inputs())]
        outputs = [tuple(meta.output_tensor_meta(index).sizes()) for index in range(meta.num_outputs())]
        return inputs, outputs

    def run(self, method: str, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs of a method in order, as arrays of their own.

        Raises:
            BackendError: the program is closed, or the method fails.
        """
        import torch

        # Copies: the runtime reads other layouts than contiguous ones wrongly, and torch wants to own what it gets.
        tensors = [torch.from_numpy(np.array(value, order="C")) for value in inputs]
        with self._running:
            if method not in self._methods:
                raise BackendError("executorch: the backend is closed")
            try:
                outputs = self._methods[method].execute(tensors)
            except RuntimeError as error:
                raise BackendError(f"executorch: {method} failed: {first_line(error)}") from None
        return [output.numpy() for output in outputs]

    def close(self) -> None:
        """Release the program; calling it twice is fine."""
        with self._running, _POOL.lock:
            if self._program is None:
                return
            self._methods, self._program = {}, None
            _POOL.users -= 1
        give_back_freed_memory()
