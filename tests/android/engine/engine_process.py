"""The harness of the Android demo's engine as a process, and the values that go in and out of it."""

from __future__ import annotations

import base64
import json
import subprocess
from typing import Any

import numpy as np
from numpy.typing import NDArray


class EngineError(Exception):
    """The engine threw.

    Attributes:
        kind: simple name of the exception's class.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class Engine:
    """The harness in a process of its own: one command a line, one answer a line."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, do: str, **arguments: Any) -> Any:
        """Answer of a command.

        Raises:
            EngineError: the engine threw.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise EngineError(answer["error"], answer["message"])
        return answer["ok"]

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)


def pack(values: NDArray[np.float32]) -> str:
    """Float32 values as the harness takes them."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()


def unpack(text: str) -> NDArray[np.float32]:
    """Float32 values as the harness gives them."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4")
