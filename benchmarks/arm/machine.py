"""Where the same programs run: this machine, and emulated Arm cores."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.arm.errors import EmulationError
from benchmarks.arm.instructions import count_instructions
from benchmarks.arm.kit import CHECKOUT, Kit
from benchmarks.arm.steps import call

CORES = {
    "cortex-a57": "Armv8.0, no dot product",
    "cortex-a76": "Armv8.2, dot product",
    "cortex-a710": "Armv9.0, int8 matrix product, SVE2",
    "max,sme=off,sve-max-vq=1": "all that QEMU knows but SME; vectors of 128 bits, as phones have",
    "max,sve-max-vq=1": "all that QEMU knows, with SME; vectors of 128 bits outside it",
}
"""What is emulated by default, and what sets it apart."""
HERE = "here"
_PROBE, _STAGES = (Path(__file__).with_name(name) for name in ("probe.py", "stages.py"))


@dataclass(frozen=True)
class Machine:
    """Something that runs our Python and native programs.

    Attributes:
        name: ``HERE``, or QEMU's name of the core.
    """

    name: str
    python: tuple[str, ...]
    """Words that start Python."""
    native: tuple[str, ...] = ()
    """Words before a native program and its arguments."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def edge_tta(self, *arguments: str) -> dict[str, Any]:
        """What a verb of ``edge-tta`` prints as JSON.

        Raises:
            EmulationError: it printed none; says what it said instead.
        """
        command = [*self.python, "-m", "edge_tta.cli", *arguments, "--json"]
        found: dict[str, Any] = self._json(command, f"edge-tta {arguments[0]}")
        return found

    def probe(self) -> dict[str, Any]:
        """Processor features and a digest of the noise, see ``probe.py``."""
        found: dict[str, Any] = self._json([*self.python, str(_PROBE)], "looking at the processor")
        return found

    def onnx_stages(self, bundle: Path, cases: Path, variants: Sequence[str]) -> list[dict[str, Any]]:
        """What ``stages.py`` prints."""
        command = [*self.python, str(_STAGES), str(bundle), str(cases), *variants]
        found: list[dict[str, Any]] = self._json(command, "ONNX Runtime")
        return found

    def _json(self, command: Sequence[str], what: str) -> Any:
        said = call(command, f"{what} on {self.name}", environment=self.environment)
        try:
            return json.loads(said)
        except json.JSONDecodeError:
            raise EmulationError(f"{what} on {self.name} printed no result") from None


def this_machine() -> Machine:
    """The machine this runs on, with this Python."""
    return Machine(HERE, (sys.executable,), environment=_environment([CHECKOUT]))


def emulated(core: str, kit: Kit, log: Path | None = None) -> Machine:
    """An emulated core.

    Args:
        core: QEMU's name of it, with switches ("max,sme=off").
        kit: makes what is missing.
        log: file or pipe that gets every instruction when it is first reached.

    Raises:
        EmulationError: something cannot be made.
    """
    words: list[str] = [str(kit.emulator.program), "-cpu", core, "-L", str(kit.root())]
    if log is not None:
        words += ["-d", "in_asm", "-D", str(log)]
    native = tuple(words)
    environment = _environment([kit.packages(), CHECKOUT])
    return Machine(core, (*native, str(kit.python_of_root())), native, environment)


@contextmanager
def traced(core: str, kit: Kit) -> Iterator[tuple[Machine, Counter[str]]]:
    """An emulated core, and what it reached of ``instructions.FAMILIES``; the counts are there after the block.

    Args:
        core: as in ``emulated``.
        kit: as in ``emulated``.
    """
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder) / "instructions"
        os.mkfifo(pipe)

        # Both ends are opened here: an emulator may start late or never, and nobody must wait for it.
        source = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        keeper = os.open(pipe, os.O_WRONLY)
        os.set_blocking(source, True)

        def drain() -> None:
            with os.fdopen(source, "rb") as stream:
                found.update(count_instructions(stream))

        reader = threading.Thread(target=drain)
        reader.start()
        try:
            yield emulated(core, kit, pipe), found
        finally:
            os.close(keeper)
            reader.join()


def _environment(path: Sequence[Path]) -> dict[str, str]:
    return {
        "PYTHONPATH": ":".join(str(folder) for folder in path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": "1",
    }
