"""Compare codecs: latent rates, sizes of the decoder's DFT, and a head without one; trained and judged alike.

python -m benchmarks.codecs --data FOLDER --cache DIR --tagger checkpoints/tagger --work DIR -o comparison.md
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from benchmarks.codecs.variants import variants
from benchmarks.command import run


def parser() -> argparse.ArgumentParser:
    """Command line."""
    known = [variant.name for variant in variants()]
    top = argparse.ArgumentParser(
        prog="python -m benchmarks.codecs", description=(__doc__ or "").splitlines()[0]
    )
    top.add_argument("--data", type=Path, required=True, help="folder of clips with a metadata.csv")
    top.add_argument("--cache", type=Path, required=True, help="folder of decoded clips")
    top.add_argument("--tagger", type=Path, required=True, help="folder of the tagger")
    top.add_argument("--work", type=Path, required=True, help="folder of runs; one that was cut off goes on")
    top.add_argument("--steps", type=int, default=1000, help="training steps of each")
    top.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="of training")
    top.add_argument("--threads", type=int, help="threads; torch's choice by default")
    top.add_argument("--only", nargs="+", choices=known, default=known, metavar="NAME", help=", ".join(known))
    top.add_argument("-o", "--output", type=Path, required=True, help="document to write, ending in .md")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = parser().parse_args(arguments)

    def write() -> tuple[Path, ...]:
        import torch

        from benchmarks.codecs.costs import measure_costs
        from benchmarks.codecs.report import write_report
        from benchmarks.codecs.study import Order, run_study
        from edge_tta.evaluate.threads import bounded_threads

        order = Order(
            options.data, options.cache, options.tagger, options.work, options.steps, options.precision
        )
        chosen = [variant for variant in variants() if variant.name in options.only]
        with nullcontext() if options.threads is None else bounded_threads(options.threads):
            outcomes = run_study(order, chosen, lambda text: print(text, file=sys.stderr, flush=True))
            return write_report(outcomes, measure_costs(chosen), torch.get_num_threads(), options.output)

    return run("codecs", write)


if __name__ == "__main__":
    sys.exit(main())
