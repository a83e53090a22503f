"""The runtime on an emulated Arm core, for real: packages, wheels, emulator, tiny bundle. And the C++ runner here."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.arm.__main__ import main, parser
from benchmarks.arm.errors import EmulationError
from benchmarks.arm.executorch_stages import Runners
from benchmarks.arm.kit import Kit
from benchmarks.arm.machine import this_machine
from benchmarks.arm.steps import call

TINY = Path(__file__).resolve().parents[1] / "golden" / "edge-tiny"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_tiny_bundle_is_the_same_on_arm(tmp_path: Path) -> None:
    # The folder of the command itself: what was fetched once is used again.
    work = parser().parse_args([]).work
    kit = Kit(work, print, sys.executable)
    try:
        _ = kit.emulator, kit.packages()
    except EmulationError as error:
        pytest.skip(f"no Arm system can be made here: {error}")
    assert (
        main(["--bundle", str(TINY), "--work", str(work), "--core", "cortex-a76", "-o", str(tmp_path)]) == 0
    )
    found = json.loads((tmp_path / "arm.json").read_text(encoding="utf-8"))
    (core,) = found["cores"]
    assert core["architecture"] == "aarch64" and "asimddp" in core["features"]
    assert core["noise_is_equal"] and [stage["stage"] for stage in core["stages"]] == [
        "text_encoder",
        "generator",
        "decoder",
    ]
    assert all(stage["snr_db"] > 80 for stage in core["stages"])
    # Float kernels need none of the int8 extensions that the core has.
    assert core["sounds"][0]["between_machines"] < 0.001


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runner for this machine."""
    pytest.importorskip("executorch", reason="needs the 'executorch' extra")
    folder = tmp_path_factory.mktemp("runner")
    return Runners(Kit(folder, print, sys.executable), print).program(this_machine())


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with a method of two inputs and two outputs: a row of a table scaled, and the scale."""
    torch = pytest.importorskip("torch")
    exir = pytest.importorskip("executorch.exir", reason="needs the 'executorch' extra")
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

    class Rows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Buffer(torch.arange(12.0).reshape(4, 3))

        def forward(self, rows: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return self.table[rows] * scale, scale + scale

    inputs = torch.tensor([0, 2]), torch.ones(2, 1)
    exported = torch.export.export(Rows(), inputs)
    lowered = exir.to_edge_transform_and_lower({"rows": exported}, partitioner=[XnnpackPartitioner()])
    path = tmp_path_factory.mktemp("program") / "rows.pte"
    path.write_bytes(lowered.to_executorch().buffer)
    return path


@pytest.mark.slow
def test_the_runner_computes_and_keeps_shapes(runner: Path, program: Path, tmp_path: Path) -> None:
    place = tmp_path / "rows" / "0"
    place.mkdir(parents=True)
    np.save(place / "input0.npy", np.array([3, 1]))
    np.save(place / "input1.npy", np.array([[0.5], [2.0]], dtype=np.float32))
    shutil.copytree(place, tmp_path / "rows" / "1")
    np.save(tmp_path / "rows" / "1" / "input0.npy", np.array([1, 3]))
    call([runner, program, tmp_path, "1", "rows"], "running")
    swapped = np.array([[1.5, 2.0, 2.5], [18.0, 20.0, 22.0]], dtype=np.float32)
    np.testing.assert_array_equal(np.load(tmp_path / "rows" / "1" / "output0.npy"), swapped)
    expected = np.array([[4.5, 5.0, 5.5], [6.0, 8.0, 10.0]], dtype=np.float32)
    np.testing.assert_array_equal(np.load(place / "output0.npy"), expected)
    np.testing.assert_array_equal(np.load(place / "output1.npy"), np.array([[1.0], [4.0]], dtype=np.float32))


@pytest.mark.slow
def test_the_runner_says_what_is_wrong(runner: Path, program: Path, tmp_path: Path) -> None:
    place = tmp_path / "rows" / "0"
    place.mkdir(parents=True)
    np.save(place / "input0.npy", np.array([3, 1]))
    good = np.array([[0.5], [2.0]], dtype=np.float32)

    def refused(message: str, *words: str | Path) -> None:
        with pytest.raises(EmulationError, match=message):
            call([runner, *words], "running")

    for wrong, message in (
        (good.astype(np.float64), "rows: input1.npy holds <f8, not float32 or int64"),
        (np.asfortranarray(np.ones((2, 3), dtype=np.float32)), "rows: input1.npy is not C-contiguous"),
    ):
        np.save(place / "input1.npy", wrong)
        refused(message, program, tmp_path, "1", "rows")
    np.save(place / "input1.npy", good)
    data = (place / "input1.npy").read_bytes()
    (place / "input1.npy").write_bytes(data[:-1])
    refused("rows: input1.npy is cut short", program, tmp_path, "1", "rows")
    (place / "input1.npy").write_bytes(b"")
    refused("rows: input1.npy is no NumPy file", program, tmp_path, "1", "rows")
    refused("columns: ExecuTorch error", program, tmp_path, "1", "columns")
    refused("threads are 1 to 64", program, tmp_path, "0", "rows")
    (tmp_path / "no.pte").write_bytes(program.read_bytes()[:100])
    refused("no.pte: was refused", tmp_path / "no.pte", tmp_path, "1", "rows")
    refused("usage", program)
