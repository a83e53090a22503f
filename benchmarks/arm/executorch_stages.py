"""ExecuTorch variants through the C++ libraries of its package: no Python and no torch on the Arm side."""

from __future__ import annotations

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.arm.cases import Case, Cases, judge_stages
from benchmarks.arm.errors import EmulationError
from benchmarks.arm.kit import Compiler, Kit, installed
from benchmarks.arm.machine import HERE, Machine
from benchmarks.arm.steps import Tell, call, once
from edge_tta.bundle import Bundle
from edge_tta.errors import MissingExtraError

SOURCE = Path(__file__).with_name("runner.cpp")
_LIBRARIES = ("", "_kernels_optimized", "_kernels_quantized", "_backend_xnnpack", "_threadpool")
# Without them the shipped headers look for one that only a build of torch makes.
_DEFINITIONS = ("C10_USING_CUSTOM_GENERATED_MACROS", "ET_EVENT_TRACER_ENABLED")


def executorch_variants(bundle: Bundle) -> list[str]:
    """Names of the bundle's variants for ExecuTorch that XNNPACK runs; Core ML is Apple's alone."""
    return sorted(
        name
        for name, variant in bundle.variants.items()
        if variant.backend == "executorch" and variant.delegate == "xnnpack"
    )


class Runners:
    """The runner for this machine and for Arm, built when first needed.

    Args:
        kit: makes what is missing.
        tell: told what is being built.
    """

    def __init__(self, kit: Kit, tell: Tell) -> None:
        self._kit, self._tell = kit, tell

    def program(self, machine: Machine) -> Path:
        """The runner that runs on a machine.

        Raises:
            MissingExtraError: executorch is not installed here.
            EmulationError: there is no compiler, or it fails.
        """
        if machine.name == HERE:
            spec = find_spec("executorch")
            if spec is None or not spec.submodule_search_locations:
                raise MissingExtraError("executorch", "comparing ExecuTorch variants")
            compiler = shutil.which("c++") or shutil.which("g++")
            if compiler is None:
                raise EmulationError("a C++ compiler is needed to run ExecuTorch without Python: install g++")
            package = Path(spec.submodule_search_locations[0])
            return self._build("runner-here", Compiler((compiler,)), package)
        return self._build("runner-arm", self._kit.cross_compiler(), self._kit.executorch())

    def _build(self, name: str, compiler: Compiler, package: Path) -> Path:
        def fill(folder: Path) -> None:
            self._tell(f"building {name}")
            include, libraries = package / "include", package / "lib"
            command = [*compiler.command, "-std=c++17", "-O1", *(f"-D{word}" for word in _DEFINITIONS)]
            command += ["-isystem", str(include)]
            command += ["-isystem", str(include / "executorch/runtime/core/portable_type/c10")]
            command += [
                str(SOURCE),
                "-o",
                str(folder / "runner"),
                f"-L{libraries}",
                f"-Wl,-rpath,{libraries}",
            ]
            # Kernels and delegates register themselves when they are loaded; nothing refers to them by name.
            command += ["-Wl,--no-as-needed", *(f"-lexecutorch{library}" for library in _LIBRARIES)]
            call(command, f"building {name}", environment=compiler.environment)

        made_from = {
            "source": SOURCE.read_text(encoding="utf-8"),
            "executorch": installed("executorch"),
            "package": str(package),
        }
        return once(self._kit.folder / name, made_from, fill) / "runner"


def check_stages(bundle: Bundle, machine: Machine, runners: Runners, cases: Cases) -> list[dict[str, Any]]:
    """Every stage of every ExecuTorch variant on all requests, one thread.

    Returns:
        Per stage: variant, stage, requests, signal-to-noise ratio in dB and largest error against the float model.

    Raises:
        EmulationError: the runner cannot be built, or fails.
        BundleError: a file of the bundle is damaged.
        MissingExtraError: executorch is not installed here.
    """
    found = []
    for name in executorch_variants(bundle):
        stages = bundle.variants[name].stages
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            for stage, entry in stages.items():
                for number, case in enumerate(cases[stage]):
                    request = place / stage / str(number)
                    request.mkdir(parents=True)
                    for index, port in enumerate(entry.inputs):
                        np.save(request / f"input{index}.npy", np.ascontiguousarray(case.inputs[port.name]))
            files = {entry.file: entry for entry in stages.values()}
            for number, entry in enumerate(files.values()):
                program = place / f"program{number}.pte"
                program.write_bytes(bundle.read(entry))
                methods = [stage for stage in stages if stages[stage].file == entry.file]
                command = [
                    *machine.native,
                    str(runners.program(machine)),
                    str(program),
                    str(place),
                    "1",
                    *methods,
                ]
                call(command, f"ExecuTorch on {machine.name}", environment=machine.environment)

            def answer(stage: str, number: int, _: Case, place: Path = place) -> NDArray[Any]:
                output: NDArray[Any] = np.load(place / stage / str(number) / "output0.npy")
                return output

            try:
                found += [{"variant": name, **stage} for stage in judge_stages(cases, answer)]
            except ValueError as error:
                raise EmulationError(f"{name}: {error}") from None
    return found
