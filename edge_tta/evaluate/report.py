"""Reports as JSON for machines and Markdown for people, both from the same dataclasses."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_tta.evaluate.statistics import Estimate
from edge_tta.files import write_file

if TYPE_CHECKING:
    from edge_tta.evaluate.embedder_figures import EmbedderFigures
    from edge_tta.evaluate.intelligibility import Intelligibility
    from edge_tta.evaluate.results import CodecReport, GeneratorReport, Provenance


def _share(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} % | {100 * estimate.low:.1f} to {100 * estimate.high:.1f} % | {estimate.n}"


def _number(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} | {estimate.low:.3f} to {estimate.high:.3f} | {estimate.n}"


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    head = ["| figure | value | 95 % interval | n |", "|---|---|---|---|"]
    return [*head, *(f"| {name} | {cells} |" for name, cells in rows), ""]


def _origin(provenance: Provenance) -> list[str]:
    parts = [f"embedder `{provenance.embedder[:12]}`", f"reference `{provenance.reference[:12]}`"]
    if provenance.prompts:
        parts.append(f"prompts `{provenance.prompts[:12]}`")
    if provenance.subject_digest:
        parts.append(f"manifest `{provenance.subject_digest[:12]}`")
    return [f"Figures may be compared only where these are equal: {', '.join(parts)}.", ""]


def _embedder(figures: EmbedderFigures) -> list[str]:
    """What one embedder found, generated beside real."""
    text = "" if figures.text_side == "none" else f"; the text score is against {figures.text_side}"
    lines = [
        f"## Judged by {figures.embedder}",
        "",
        (
            f"Embedder `{figures.digest[:12]}`, {figures.dimensions} dimensions, listening at "
            f"{figures.sample_rate} Hz{text}."
        ),
        "",
        "| figure | generated | 95 % interval | n | real validation clips | 95 % interval | n |",
        "|---|---|---|---|---|---|---|",
    ]
    for item in figures.comparisons:
        real = " |  | " if item.real is None else _number(item.real)
        lines.append(f"| {item.name} | {_number(item.generated)} | {real} |")
    return [*lines, ""]


def _intelligibility(found: Intelligibility) -> list[str]:
    """Spoken digits that were understood, and what the others were taken for."""
    lines = ["## Intelligibility", "", *_table(
        [
            ("generated digits recognised", _share(found.generated)),
            ("real validation recordings recognised", _share(found.real)),
        ]
    )]  # fmt: skip
    lines += [
        f"By chance {100 * found.chance:.0f} %. Generated over real: {found.relative:.2f}.",
        "",
        "| said | clips | recognised | taken most often for |",
        "|---|---|---|---|",
    ]
    for row in found.digits:
        other = f"{row.mistaken_for} ({row.mistakes})" if row.mistaken_for else ""
        lines.append(f"| {row.digit} | {row.n} | {row.recognised} | {other} |")
    return [*lines, ""]


def generator_markdown(report: GeneratorReport) -> str:
    """The report of a bundle as Markdown."""
    settings = report.settings
    lines = [f"# Evaluation of {report.provenance.subject}", ""]
    guidance = "the bundle's own guidance" if settings.guidance is None else f"guidance {settings.guidance}"
    lines += [
        (
            f"{settings.seeds_per_prompt} seeds a prompt, {settings.seconds} s, {settings.steps} step(s), {guidance}, "
            f"{settings.precision}."
        ),
        "",
    ]
    lines += _origin(report.provenance)
    rows: list[tuple[str, str]] = []
    for suite in report.suites:
        rows.append((f"{suite.suite}: label ranked first", _share(suite.adherence.top1)))
        rows.append((f"{suite.suite}: label among five", _share(suite.adherence.top5)))
    rows.append(("real validation clips: label ranked first", _share(report.real.top1)))
    rows.append(("real validation clips: label among five", _share(report.real.top5)))
    for pairs in report.two_sounds:
        rows.append((f"{pairs.suite}: both among five", _share(pairs.both)))
    for ceiling in dict.fromkeys(pairs.real_mixtures for pairs in report.two_sounds):
        if ceiling is not None:
            rows.append(("mixtures of two real clips: both among five", _share(ceiling)))
    rows.append(("Fréchet distance, generated to real", _number(report.frechet_generated)))
    rows.append(("Fréchet distance, real validation to real", _number(report.frechet_real)))
    if report.embedding_diversity is not None:
        rows.append(
            ("diversity over seeds, embedding, share of real", _number(report.embedding_diversity.ratio))
        )
    if report.timbre_diversity is not None:
        rows.append(("diversity over seeds, timbre, share of real", _number(report.timbre_diversity.ratio)))
    for whose, step in (
        ("generated sounds", report.step_generated),
        ("real training clips", report.step_real),
    ):
        if step is not None:
            name = f"largest step in the mean spectrum of {whose}, dB, at {step.hertz / 1000:.1f} kHz"
            rows.append((name, _number(step.height_db)))
    lines += _table(rows)
    if report.intelligibility is not None:
        lines += _intelligibility(report.intelligibility)
    lines += [
        (
            "Labels count for as much in the figures of real validation clips as in those of generated ones, however "
            "many clips there are of each; Fréchet distances are of as many clips of each label."
        ),
        "",
    ]
    if report.labels_without_real:
        names = ", ".join(report.labels_without_real)
        lines += [f"Without a real validation clip, and so not held against any: {names}.", ""]
    for suite in report.suites:
        if suite.relative_top5 is not None:
            lines.append(f"{suite.suite}: top-5 is {suite.relative_top5:.2f} of the real clips' own.")
    if report.skipped_prompts:
        lines += ["", f"Left out, label unknown to the tagger: {'; '.join(report.skipped_prompts)}."]
    for figures in report.embedders:
        lines += ["", *_embedder(figures)]
    lines += ["", "Real above, generated below:", "", "![contact sheet](contact_sheet.png)", ""]
    return "\n".join([*lines, *_labels(report)]) + "\n"


def _labels(report: GeneratorReport) -> list[str]:
    """Which sounds fail: every label of every suite, the worst first, beside its real validation clips."""
    lines = [
        "## Label by label, the worst first",
        "",
        "| suite | label | clips | ranked first | among five | real validation clips | ranked first | among five |",
        "|---|---|---|---|---|---|---|---|",
    ]
    real = {row.label: row for row in report.real.labels}
    for suite in report.suites:
        for row in suite.adherence.worst_first():
            beside = real.get(row.label)
            theirs = f"{beside.n} | {beside.top1} | {beside.top5}" if beside else "0 | – | –"
            lines.append(f"| {suite.suite} | {row.label} | {row.n} | {row.top1} | {row.top5} | {theirs} |")
    return lines


def codec_markdown(report: CodecReport) -> str:
    """The report of a codec as Markdown."""
    figures = report.figures
    rows = [
        ("original: label ranked first", _share(figures.original_top1)),
        ("reconstructed: label ranked first", _share(figures.reconstructed_top1)),
        ("change", _share(figures.top1_change)),
        ("original: label among five", _share(figures.original_top5)),
        ("reconstructed: label among five", _share(figures.reconstructed_top5)),
        ("first-ranked label unchanged", _share(figures.same_verdict)),
        ("Fréchet distance, reconstructed to original", _number(figures.frechet)),
        ("log-mel distance (log10 magnitude)", _number(figures.log_mel)),
        ("multi-resolution STFT distance", _number(figures.multi_resolution_stft)),
    ]
    if figures.treble_change is not None:
        rows.append(
            ("level from 12 to 16 kHz, reconstructed over original, dB", _number(figures.treble_change))
        )
    if (found := figures.transients) is not None:
        rows += [
            ("18 ms before an onset, dB below its peak: original", _number(found.original_before)),
            ("the same, reconstructed", _number(found.reconstructed_before)),
            ("onsets with pre-echo above -40 dB that the original does not have", _share(found.echoes)),
            ("rise of an onset, ms: original", _number(found.original_rise)),
            ("the same, reconstructed", _number(found.reconstructed_rise)),
        ]
    lines = [
        f"# Reconstruction by {report.provenance.subject}",
        "",
        *_origin(report.provenance),
        *_table(rows),
    ]
    lines += ["Original above, reconstructed below:", "", "![contact sheet](codec_sheet.png)", ""]
    if figures.transients is not None:
        lines += ["90 ms around onsets, from the original's first sample of it on:", ""]
        lines += ["![onsets](codec_transients.png)", ""]
    return "\n".join(lines)


def report_json(report: Any) -> str:
    """A report dataclass as JSON; infinite or undefined figures are refused, they would not be JSON."""
    return json.dumps(asdict(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write_report(report: Any, markdown: str, directory: Path, stem: str) -> None:
    """Write ``stem.json`` and ``stem.md``; each appears whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    for suffix, text in ((".json", report_json(report)), (".md", markdown)):
        write_file(directory / f"{stem}{suffix}", text.encode())
