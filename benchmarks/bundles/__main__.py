"""List the variants of bundles: bytes, and how near each stage is to the float model.

python -m benchmarks.bundles BUNDLE... -o docs/reports/bundles.md
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.command import run
from benchmarks.markdown import table
from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import STAGES
from edge_tta.files import make_folder, write_file

COMMAND = "edge-tta export CHECKPOINT --target onnx --target executorch --target coreml -o BUNDLE"

NOTE = (
    "Signal-to-noise ratios, dB, are those that the export measured on its golden inputs against the float model: ONNX",
    "and ExecuTorch variants by running them, Core ML's by running the saved package's program in an interpreter of",
    "our own, in float arithmetic with its rounded weights. A decoder's ratio says little of what is heard, because",
    "its phases are running sums.",
)


def parser() -> argparse.ArgumentParser:
    """Command line."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks.bundles", description=(__doc__ or "").splitlines()[0]
    )
    top.add_argument("bundles", nargs="+", type=Path, help="bundle folders")
    top.add_argument("-o", "--output", type=Path, required=True, help="document to write, ending in .md")
    return top


def page(bundles: list[Bundle]) -> str:
    """The document: a table a bundle."""
    lines = [
        "# Bundles for every runtime",
        "",
        f"Made by `{COMMAND}` and listed by `python -m benchmarks.bundles`.",
        "",
        *NOTE,
        "",
    ]
    for bundle in bundles:
        manifest = bundle.manifest
        rows = []
        for name, variant in sorted(bundle.variants.items()):
            ratios = variant.parity_snr_db
            shown = [f"{ratios[stage]:.1f}" if stage in ratios else "–" for stage in STAGES]
            rows.append((name, variant.backend, variant.precision, f"{variant.size() / 1e6:.1f}", *shown))
        tools = ", ".join(f"{tool} {version}" for tool, version in sorted(manifest.provenance.tools.items()))
        lines += [
            f"## {manifest.name} {manifest.version}",
            "",
            f"`{bundle.digest[:12]}`, trained on: {manifest.training_data} Made with {tools}.",
            "",
            *table(
                ("variant", "backend", "precision", "MB", *(name.replace("_", " ") for name in STAGES)),
                rows,
                3,
            ),
        ]
    return "\n".join(lines).rstrip() + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; every expected failure is one line and an exit code."""
    options = parser().parse_args(arguments)

    def write() -> list[Path]:
        text = page([Bundle.open(folder) for folder in options.bundles])
        make_folder(options.output.parent)
        write_file(options.output, text.encode())
        return [options.output]

    return run("benchmarks.bundles", write)


if __name__ == "__main__":
    sys.exit(main())
