"""Runs a saved Core ML package without a Mac: its program is read back and every operation computed with torch.

    package = MilInterpreter(Path("edge.mlpackage"))
    package.run("decoder", {"latent": latent})["waveform"]

This covers the graph and its weights as they were written. Two arithmetics: ``float32`` computes in float32 whatever
the program says, so that a wrong graph or weight cannot hide behind rounding; ``declared`` rounds every result to the
type the program declares for it, so that a half that overflows, or is too coarse for a running phase, shows before a
device does it. What it cannot show: how a device orders its sums, what its compiler refuses, and how fast it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.mil_operators import OPERATORS
from export.mil_program import Function, MilError, Operation, Port, Reference, Value, read_program

Arithmetic = Literal["float32", "declared"]

_INTEGER_BITS = {"INT8": 8, "INT16": 16, "INT32": 32, "UINT8": 8, "UINT16": 16, "UINT32": 32}
_TAKES_LIST = frozenset({("concat", "values")})
_CONSTANT = ("const", "constexpr_")
_INPUT_TYPES = {"FLOAT32": np.float32, "INT32": np.int32}


class MilInterpreter:
    """The functions of a saved package.

    Args:
        package: directory of the ``.mlpackage``.
        arithmetic: see above.

    Raises:
        MissingExtraError: coremltools is absent.
        MilError: the package is malformed, or has an operation that is not known; names it.
    """

    def __init__(self, package: Path, arithmetic: Arithmetic = "float32") -> None:
        self.arithmetic = arithmetic
        self.functions: Mapping[str, Function] = read_program(package)
        for name, function in self.functions.items():
            if unknown := {operation.type for operation in function.operations} - OPERATORS.keys():
                raise MilError(f"{name}: the interpreter has no operation {', '.join(sorted(unknown))}")
        # Weights are unpacked once, not at every run.
        self._constants = {name: self._unpack(function) for name, function in self.functions.items()}

    def run(self, function: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Outputs of a function by name.

        Args:
            function: its name.
            inputs: float32 or int32 arrays by name, as the model's interface demands.

        Raises:
            MilError: unknown function, inputs the interface does not allow, or a result that is not what it was
                declared to be; names the operation.
        """
        if function not in self.functions:
            raise MilError(f"no function {function}; there are {', '.join(self.functions)}")
        called = self.functions[function]
        values = dict(self._constants[function])
        for port in called.inputs:
            values[port.name] = _checked_input(called, port, inputs)
        if unknown := set(inputs) - {port.name for port in called.inputs}:
            raise MilError(f"{function} has no input {', '.join(sorted(unknown))}")
        with torch.inference_mode():
            for operation in called.operations:
                if not operation.type.startswith(_CONSTANT):
                    self._run(operation, values)
        outputs = {}
        for name in called.outputs:
            value = values[name]
            assert isinstance(value, Tensor)
            outputs[name] = value.numpy()
        return outputs

    def run_in_order(self, function: str, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """As ``run``, for programs whose outputs have no names of ours; 64-bit integers are narrowed.

        Returns:
            Outputs in the order of the program.
        """
        given = {
            name: array.astype(np.int32) if array.dtype == np.int64 else array
            for name, array in inputs.items()
        }
        found = self.run(function, given)
        return [found[name] for name in self.functions[function].outputs]

    def _unpack(self, function: Function) -> dict[str, Value]:
        values: dict[str, Value] = {}
        with torch.inference_mode():
            for operation in function.operations:
                if operation.type.startswith(_CONSTANT):
                    self._run(operation, values)
        return values

    def _run(self, operation: Operation, values: dict[str, Value]) -> None:
        place = f"{operation.type} ({operation.outputs[0].name})"
        arguments: dict[str, Any] = {}
        for name, bindings in operation.inputs.items():
            found = [values[item.name] if isinstance(item, Reference) else item for item in bindings]
            arguments[name] = found if (operation.type, name) in _TAKES_LIST else found[0]
        try:
            result = OPERATORS[operation.type](**arguments)
        except (TypeError, ValueError, RuntimeError, KeyError, IndexError) as error:
            raise MilError(f"{place}: {str(error).splitlines()[0]}") from error
        results = [result] if isinstance(result, Tensor | str) else list(result)
        if len(results) != len(operation.outputs):
            raise MilError(f"{place}: {len(results)} results for {len(operation.outputs)} outputs")
        for port, value in zip(operation.outputs, results, strict=True):
            values[port.name] = value if isinstance(value, str) else self._as_declared(value, port, place)

    def _as_declared(self, value: Tensor, port: Port, place: str) -> Tensor:
        """A result as its declaration says; a shape or type that disagrees would be an error on the device as well."""
        fits = len(port.shape) == value.ndim and all(
            size in (None, actual) for size, actual in zip(port.shape, value.shape, strict=True)
        )
        if not fits:
            raise MilError(f"{place}: made {tuple(value.shape)}, declared is {port.shape}")
        kind = "FLOAT" if value.is_floating_point() else "BOOL" if value.dtype == torch.bool else "INT"
        if kind not in port.dtype:
            raise MilError(f"{place}: made {value.dtype}, declared is {port.dtype}")
        if port.dtype in _INTEGER_BITS and value.numel():
            bits = _INTEGER_BITS[port.dtype]
            low, high = (
                (0, 2**bits - 1) if port.dtype.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            )
            if int(value.min()) < low or int(value.max()) > high:
                raise MilError(
                    f"{place}: {int(value.min())}..{int(value.max())} does not fit into {port.dtype}"
                )
        if port.dtype == "FLOAT16" and self.arithmetic == "declared":
            return value.half().float()
        return value


def _checked_input(function: Function, port: Port, inputs: Mapping[str, NDArray[Any]]) -> Tensor:
    if port.name not in inputs:
        raise MilError(f"input {port.name} is missing")
    array = inputs[port.name]
    if array.dtype != _INPUT_TYPES.get(port.dtype):
        raise MilError(f"input {port.name} is {array.dtype}, declared is {port.dtype}")
    allowed = function.lengths[port.name]
    if not allowed.allow(array.shape):
        raise MilError(f"input {port.name} has the shape {array.shape}; allowed are {allowed}")
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor if tensor.is_floating_point() else tensor.long()
