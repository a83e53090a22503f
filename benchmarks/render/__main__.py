"""Render records of ``edge-tta bench``.

python -m benchmarks.render RECORDS... -o DIRECTORY
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.command import run
from benchmarks.render.records import read_records
from benchmarks.render.report import write_report


def parser() -> argparse.ArgumentParser:
    """Command line."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks.render", description=(__doc__ or "").splitlines()[0]
    )
    top.add_argument("records", type=Path, nargs="+", help="JSON Lines files of edge-tta bench -o")
    top.add_argument("-o", "--output", type=Path, required=True, help="folder for bench.md and its pictures")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run the command; every expected failure is one line and an exit code."""
    options = parser().parse_args(arguments)

    def write() -> Iterable[Path]:
        found = read_records(options.records)
        for reason in found.left_out:
            print(f"left out: {reason}", file=sys.stderr)
        return write_report(found, options.output)

    return run("benchmarks.render", write)


if __name__ == "__main__":
    sys.exit(main())
