"""Time ours beside other systems, rebuilt from published facts with random weights.

    python -m benchmarks.peers --threads 2 --seconds 10 -o docs/reports/peers.md

Needs 12 GB of free memory, 8 GB of disk and some minutes on a quiet machine; with --tiny a minute and nothing else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.command import run
from benchmarks.peers.compare import MIN_RUNS, Plan, compare
from benchmarks.peers.report import write_report
from benchmarks.peers.systems import PEERS
from edge_tta.runtime.pipeline import checked_threads


def parser() -> argparse.ArgumentParser:
    """Command line."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=(__doc__ or "").splitlines()[0]
    )
    top.add_argument("--threads", type=int, help="threads; the usable cores by default, at most four")
    top.add_argument("--seconds", type=float, default=10.0, help="duration of our sounds")
    top.add_argument("--runs", type=int, default=MIN_RUNS, help="timed sounds of a peer, at least 5")
    top.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS, help="systems; all by default")
    top.add_argument("--work", type=Path, help="folder that keeps exported files; a temporary one by default")
    top.add_argument("--tiny", action="store_true", help="shrunken systems, to try the command")
    top.add_argument("-o", "--output", type=Path, required=True, help="document to write, ending in .md")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run the command; every expected failure is one line and an exit code."""
    options = parser().parse_args(arguments)

    def write() -> Iterable[Path]:
        threads = checked_threads(options.threads)
        plan = Plan(threads, options.seconds, options.runs, tuple(options.peers), options.tiny)
        with tempfile.TemporaryDirectory() as temporary:
            comparison = compare(plan, options.work or Path(temporary), _tell)
        return write_report(comparison, options.output)

    return run("benchmarks.peers", write)


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
