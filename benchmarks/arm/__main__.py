"""Do bundles compute on Arm what they compute here: the runtime itself on emulated Arm cores.

    python -m benchmarks.arm [--bundle BUNDLE ...] [--work DIR] [-o docs/reports]

Nothing is installed on this machine; what is missing is fetched into the work folder, once. A command that was killed
goes on when it is run once more.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from benchmarks.arm.cases import NUM_PROMPTS
from benchmarks.arm.executorch_stages import Runners
from benchmarks.arm.judge import compare
from benchmarks.arm.kit import Kit
from benchmarks.arm.machine import CORES
from benchmarks.arm.measure import Job
from benchmarks.arm.report import summary, write_report
from edge_tta.bundle import Bundle
from edge_tta.errors import EdgeTTAError, GateError
from edge_tta.evaluate.suite import find_prompts, read_prompts


def parser() -> argparse.ArgumentParser:
    """Command line."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks.arm", description=(__doc__ or "").splitlines()[0]
    )
    top.add_argument(
        "--bundle", action="append", default=[], help="folder or name, repeatable; the shipped one by default"
    )
    top.add_argument(
        "--work", type=Path, default=_cache(), help="folder for everything that is fetched and measured"
    )
    top.add_argument(
        "--core", nargs="+", default=list(CORES), help="QEMU's names of cores; by default " + " ".join(CORES)
    )
    top.add_argument("-o", "--output", type=Path, help="folder for arm.md and arm.json; none by default")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run the command; every expected failure is one line and an exit code."""
    options = parser().parse_args(arguments)
    try:
        bundles = tuple(Bundle.open(name) for name in options.bundle or [None])
        kit = Kit(options.work, _tell, sys.executable)
        prompts = tuple(prompt.text for prompt in read_prompts(find_prompts("labels"))[:NUM_PROMPTS])
        job = Job(bundles, kit, Runners(kit, _tell), prompts, _tell)
        found = compare(job, {core: CORES.get(core, "") for core in options.core})
        for line in summary(found):
            print(line)
        if options.output is not None:
            for path in write_report(found, options.output):
                print(path)
        if not found["passed"]:
            raise GateError("Arm does not reach this machine's figures; see the lines marked FAILED")
    except EdgeTTAError as error:
        print(f"benchmarks.arm: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("benchmarks.arm: cancelled", file=sys.stderr)
        return 130
    return 0


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-tta-arm"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    # Unwinds, so that the emulator ends and temporary files go.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
