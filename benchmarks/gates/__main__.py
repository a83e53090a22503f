"""One table of what the product must reach, made from the recorded measurements.

python -m benchmarks.gates [--reports docs/reports] -o docs/reports/gates.md
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.gates.page import page
from benchmarks.gates.recorded import read_reports
from edge_tta.errors import EdgeTTAError, OutputError

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
    try:
        text = page(read_reports(options.reports))
        try:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write {options.output}: {error.strerror or error}") from error
        print(options.output)
    except EdgeTTAError as error:
        print(f"benchmarks.gates: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
