"""One page of what the product must reach, made from the recorded measurements.

python -m benchmarks.gates [--reports docs/reports] -o docs/reports/gates.md
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.command import run
from benchmarks.gates.page import page
from benchmarks.gates.recorded import read_reports
from edge_tta.files import make_folder, write_file

REPORTS = Path("docs/reports")


def parser() -> argparse.ArgumentParser:
    """Command line."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks.gates", description=(__doc__ or "").splitlines()[0]
    )
    top.add_argument("--reports", type=Path, default=REPORTS, help="folder with the recorded measurements")
    top.add_argument("-o", "--output", type=Path, required=True, help="document to write, ending in .md")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run the command; every expected failure is one line and an exit code."""
    options = parser().parse_args(arguments)

    def write() -> list[Path]:
        make_folder(options.output.parent)
        write_file(options.output, page(read_reports(options.reports)).encode())
        return [options.output]

    return run("benchmarks.gates", write)


if __name__ == "__main__":
    sys.exit(main())
