"""Outcomes as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.codecs.costs import ROUNDS, SECONDS, Cost
from benchmarks.codecs.study import Outcome
from benchmarks.markdown import table
from edge_tta.evaluate.statistics import Estimate
from edge_tta.files import make_folder, write_file
from edge_tta.runtime.device import cpu_model


def write_report(
    outcomes: Sequence[Outcome], costs: Sequence[Cost], threads: int, output: Path
) -> tuple[Path, ...]:
    """Write the document and, beside it, ``.json`` with everything that was measured.

    Raises:
        OutputError: the folder cannot be written.
    """
    make_folder(output.parent)
    both = [asdict(outcome) | {"costs": asdict(cost)} for outcome, cost in zip(outcomes, costs, strict=True)]
    data = json.dumps(both, indent=1, ensure_ascii=False, allow_nan=False)
    paths = output, output.with_suffix(".json")
    for path, text in zip(paths, (page(outcomes, costs, threads, cpu_model()), data + "\n"), strict=True):
        write_file(path, text.encode())
    return paths


def page(outcomes: Sequence[Outcome], costs: Sequence[Cost], threads: int, machine: str) -> str:
    """The document."""
    steps = sorted({outcome.steps for outcome in outcomes})
    lines = [
        "# Codecs compared",
        "",
        (
            f"Trained from nothing for {' or '.join(map(str, steps))} steps of 18 s of sound each, with one seed, by "
            "`python -m benchmarks.codecs`; judged on validation clips as by `edge-tta evaluate-codec`. So short a "
            "training says which is ahead early on, not where each would end. In brackets: 95 %."
        ),
        "",
        "## What is lost",
        "",
    ]
    rows = []
    for outcome in outcomes:
        found = outcome.figures
        onset = found.transients
        rows.append(
            [
                outcome.title,
                f"{100 * found.reconstructed_top1.value:.1f} ({_percent(found.top1_change)})",
                f"{100 * found.reconstructed_top5.value:.1f}",
                _plain(found.frechet, 2),
                _plain(found.log_mel, 3),
                _plain(found.multi_resolution_stft, 2),
                "–" if onset is None else _plain(onset.reconstructed_before, 1),
                "–" if onset is None else _plain(onset.reconstructed_rise, 1),
            ]
        )
    head = [
        "codec",
        "label first, % (change)",
        "among five, %",
        "Fréchet distance",
        "log10-mel",
        "STFT distance",
    ]
    lines += table([*head, "before onsets, dB", "rise, ms"], rows, 1)
    if outcomes:
        first = outcomes[0].figures
        onset = first.transients
        lines += [
            f"Originals: label first {100 * first.original_top1.value:.1f} %, among five "
            f"{100 * first.original_top5.value:.1f} %"
            + (
                ""
                if onset is None
                else f"; {onset.original_before.value:.1f} dB before onsets, rise {onset.original_rise.value:.1f} ms"
            )
            + ".",
            "",
        ]
    lines += [
        "## What it costs",
        "",
        (
            f"{SECONDS:g} s of sound in float32 by torch, {threads} thread{'s' if threads != 1 else ''}, {machine}: "
            f"medians of {ROUNDS} rounds in which every codec runs once, and of the ratios to the first one's time "
            "in a round. The generator is one pass of edge-120m's shape. Random weights, which change no time."
        ),
        "",
    ]
    shown = []
    for outcome, cost in zip(outcomes, costs, strict=True):
        shown.append(
            [
                outcome.title,
                f"{outcome.latents_per_second:.1f} × {outcome.latent_channels}",
                f"{cost.decoder_ms:.0f} ({cost.decoder_ratio:.2f})",
                f"{cost.generator_ms:.0f} ({cost.generator_ratio:.2f})",
            ]
        )
    lines += table(
        ["codec", "latents a second × channels", "decoder, ms (ratio)", "generator, ms (ratio)"], shown, 1
    )
    return "\n".join(lines).rstrip() + "\n"


def _plain(estimate: Estimate, decimals: int) -> str:
    low, high = (f"{end:.{decimals}f}" for end in (estimate.low, estimate.high))
    return f"{estimate.value:.{decimals}f} ({low} to {high})"


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.value:+.1f}: {100 * estimate.low:+.1f} to {100 * estimate.high:+.1f}"
