"""The acceleration study: measure what steps cost, train every method, judge what it makes, render the report.

    python -m benchmarks.acceleration trial --start CHECKPOINT --data FOLDER --cache DIR --work DIR
    python -m benchmarks.acceleration train --start CHECKPOINT --data FOLDER --cache DIR --work DIR
    python -m benchmarks.acceleration judge --work DIR --reference FOLDER --tagger DIR
    python -m benchmarks.acceleration report --results FILE -o docs/reports

What is finished is not done again; a command that was killed goes on when it is run once more.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.acceleration.plan import PACKAGED, Budget, Study, load_study
from edge_tta.errors import EdgeTTAError

if TYPE_CHECKING:
    from benchmarks.acceleration.workshop import Workshop

RESULTS = "results.jsonl"


def parser() -> argparse.ArgumentParser:
    """Command line."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks.acceleration", description=(__doc__ or "").splitlines()[0]
    )
    verbs = top.add_subparsers(dest="verb", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--study", type=Path, default=PACKAGED, help="plan; the packaged one by default")
    common.add_argument("--work", type=Path, required=True, help="folder of all runs and checkpoints")
    common.add_argument("--only", nargs="+", default=[], metavar="NAME", help="entries; all by default")
    common.add_argument("--seeds", type=int, nargs="+", default=[0], help="training seeds")
    common.add_argument("--threads", type=int, help="threads; torch's choice by default")
    work = argparse.ArgumentParser(add_help=False)
    work.add_argument("--start", type=Path, required=True, help="checkpoint of the recipe 'flow'")
    work.add_argument("--data", type=Path, required=True, help="folder of training clips")
    work.add_argument("--cache", type=Path, required=True, help="folder of decoded clips and latents")
    work.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override of every recipe"
    )
    verbs.add_parser("trial", parents=[common, work], help="measure what a step of each entry costs")
    train = verbs.add_parser("train", parents=[common, work], help="train the entries")
    train.add_argument("--budget-scale", type=float, default=1.0, help="factor of every budget")
    train.add_argument(
        "--budget-steps",
        type=int,
        metavar="N",
        help="budget of N steps of the baseline, in place of the plan's",
    )
    train.add_argument("--costs", type=Path, help="what trial measured; nothing is measured any more")
    judge = verbs.add_parser("judge", parents=[common], help="judge what is trained")
    judge.add_argument("--reference", type=Path, required=True, help="folder of real clips")
    judge.add_argument("--tagger", type=Path, required=True, help="folder of the tagger")
    judge.add_argument("--prompts", type=Path, help="prompt list; the packaged labels by default")
    judge.add_argument("--results", type=Path, help=f"JSON lines; {RESULTS} in the work folder by default")
    judge.add_argument("--seconds", type=float, default=3.0, help="duration of a clip")
    judge.add_argument("--clips-per-prompt", type=int, default=2)
    judge.add_argument("--batch", type=int, default=25, help="clips made at a time")
    judge.add_argument("--device", default="cpu", help="cpu, cuda or auto")
    report = verbs.add_parser("report", help="render the report")
    report.add_argument("--results", type=Path, required=True, help="JSON lines of judge")
    report.add_argument("-o", "--output", type=Path, default=Path("docs/reports"))
    return top


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        with _bounded(options):
            {"trial": _trial, "train": _train, "judge": _judge, "report": _report}[options.verb](options)
    except EdgeTTAError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _bounded(options: argparse.Namespace) -> AbstractContextManager[None]:
    from edge_tta.evaluate.threads import bounded_threads

    count = getattr(options, "threads", None)
    return nullcontext() if count is None else bounded_threads(count)


def _trial(options: argparse.Namespace) -> None:
    from benchmarks.acceleration.costs import COSTS
    from benchmarks.acceleration.train import try_study

    study = load_study(options.study)
    costs = try_study(_workshop(options, study), options.only)
    base = next((cost.seconds_per_step for cost in costs if cost.entry == study.baseline), 0.0)
    for cost in costs:
        share = f", {cost.seconds_per_step / base:.2f} of {study.baseline}" if base else ""
        print(f"{cost.entry:24s} {cost.failure or f'{1000 * cost.seconds_per_step:.1f} ms a step{share}'}")
    print(f"costs are in {options.work / COSTS}")


def _workshop(options: argparse.Namespace, study: Study) -> Workshop:
    from benchmarks.acceleration.workshop import Workshop

    folders = options.start, options.data, options.cache, options.work
    return Workshop(study, *folders, overrides=tuple(options.set), tell=_tell)


def _train(options: argparse.Namespace) -> None:
    from benchmarks.acceleration.train import train_study

    study = load_study(options.study)
    if options.budget_steps is not None:
        study = replace(study, budget=Budget(baseline_steps=options.budget_steps))
    shop = replace(_workshop(options, study), scale=options.budget_scale, costs=options.costs)
    records = train_study(shop, options.only, options.seeds)
    failed = [record for record in records if record.failure]
    print(f"{len(records) - len(failed)} entries trained, {len(failed)} failed, in {options.work}")


def _judge(options: argparse.Namespace) -> None:
    from benchmarks.acceleration.judge import Bench, Request, judge_study

    request = Request(options.seconds, options.clips_per_prompt, options.batch, options.device)
    results = options.results or options.work / RESULTS
    study = load_study(options.study)
    with resources.as_file(resources.files("edge_tta.evaluate") / "prompts" / "labels.csv") as packaged:
        bench = Bench(options.reference, options.tagger, options.prompts or packaged, request)
        count = judge_study(study, options.work, results, bench, options.only, options.seeds, _tell)
    print(f"{count} evaluations added to {results}")


def _report(options: argparse.Namespace) -> None:
    from benchmarks.acceleration.records import read_records
    from benchmarks.acceleration.report import write_report

    for path in write_report(read_records(options.results), options.output):
        print(path)


if __name__ == "__main__":
    sys.exit(main())
