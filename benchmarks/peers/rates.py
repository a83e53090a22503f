"""What large matrix products reach on this machine: the limit that networks are held against."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from benchmarks.peers.results import Rates
from edge_tta.runtime.apart import answer, ask

SIZE = 2048
TRIES = 10


@dataclass(frozen=True)
class Job:
    """What to measure."""

    threads: int
    size: int = SIZE


def measure_rates(threads: int, size: int = SIZE) -> Rates:
    """Fastest of ten products of ``size`` x ``size`` matrices, in a process of its own."""
    return ask(__name__, Job(threads, size), Rates, "matrix products")


def _rates(job: Job) -> Rates:
    random = np.random.default_rng(0)
    shape = (job.size, job.size)
    signed = random.integers(-64, 64, shape).astype(np.int8)
    unsigned = random.integers(0, 255, shape).astype(np.uint8)
    floats = random.standard_normal((2, *shape)).astype(np.float32)
    return Rates(
        float32=_rate("MatMul", floats[0], floats[1], TensorProto.FLOAT, job.threads),
        int8=_rate("MatMulInteger", unsigned, signed, TensorProto.INT32, job.threads),
    )


def _rate(operator: str, left: NDArray[Any], right: NDArray[Any], result: int, threads: int) -> float:
    """10^9 operations a second; the right side is a constant, as weights are."""
    kind = helper.np_dtype_to_tensor_dtype(left.dtype)
    weight = helper.make_tensor(
        "w", helper.np_dtype_to_tensor_dtype(right.dtype), right.shape, right.tobytes(), raw=True
    )
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", kind, left.shape)],
        [helper.make_tensor_value_info("y", result, left.shape)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    best = float("inf")
    for _ in range(TRIES + 1):
        started = time.perf_counter()
        session.run(None, {"x": left})
        best = min(best, time.perf_counter() - started)
    return 2 * len(left) ** 3 / best / 1e9


if __name__ == "__main__":
    sys.exit(answer(Job, _rates))
