"""The result of a validation as Markdown: what fits into a repository."""

from __future__ import annotations

from edge_tta.evaluate.figures import FIGURES
from edge_tta.evaluate.parity_results import Levels, ParityReport, VariantParity
from edge_tta.evaluate.parity_text import (
    STAGE_TITLES,
    figure_interval,
    figure_number,
    limit_text,
    measured_text,
    number,
    share,
    sounds_text,
    variant_sentence,
    verdict,
)


def parity_markdown(report: ParityReport) -> str:
    """The report as Markdown, without sounds and pictures."""
    reference = report.reference
    lines = [
        f"# Validation of {report.bundle}",
        "",
        f"Against {reference.name} ({reference.backend}, fp32) with the same prompts and noise; {sounds_text(report)}.",
        "",
        *(f"- {variant_sentence(variant)}" for variant in report.variants),
        "",
        "## Gates",
        "",
        "| variant | gate | limit | measured | verdict |",
        "|---|---|---|---|---|",
    ]
    for variant in report.variants:
        for gate in variant.gates:
            doubt = "" if gate.decisive is not False else "; limit within the interval"
            lines.append(
                f"| {variant.name} | {gate.title} | {limit_text(gate)} | {measured_text(gate)} | "
                f"{verdict(gate)}{doubt} |"
            )
    lines += ["", *_levels(report)]
    for variant in report.variants:
        if variant.figures:
            lines += ["", *_figures(report, variant)]
    lines += ["", *_origin(report), ""]
    return "\n".join(lines)


def _levels(report: ParityReport) -> list[str]:
    """Every set of sounds by itself."""
    lines = [
        "## Every set of sounds by itself",
        "",
        "| sounds of | loudness | first | in five | Fréchet distance | silent | too loud | flat tops | clicks |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows: list[tuple[str, Levels]] = [(report.reference.name, report.reference.levels)]
    rows += [(variant.name, variant.levels) for variant in report.variants if variant.levels is not None]
    for name, levels in rows:
        faults = levels.defects
        loud = (
            "all silent" if levels.loudness_lufs is None else f"{number(levels.loudness_lufs.value, 1)} LUFS"
        )
        frechet = "not measured" if levels.frechet is None else number(levels.frechet.value, 1)
        lines.append(
            f"| {name} | {loud} | {share(levels.top1)} | {share(levels.top5)} | {frechet} | {faults.silent} | "
            f"{faults.overloaded} | {faults.flat_topped} | {faults.clicks} |"
        )
    return lines


def _figures(report: ParityReport, variant: VariantParity) -> list[str]:
    """Every figure of a variant."""
    lines = [
        f"## {variant.name}",
        "",
        "| stage | figure | mean | 95 % interval | median | lowest | highest | n |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, kind in FIGURES.items():
        figure = variant.figures.get(key)
        if figure is None:
            continue
        unit = f", {kind.unit}" if kind.unit else ""
        rest = [
            "" if v is None else figure_number(key, v) for v in (figure.median, figure.lowest, figure.highest)
        ]
        lines.append(
            f"| {STAGE_TITLES[kind.stage]} | {kind.title}{unit} | {figure_number(key, figure.value)} | "
            f"{figure_interval(key, figure)} | {' | '.join(rest)} | {figure.n} |"
        )
    apart = report.reference.seed_log_mel, report.reference.seed_stft
    if apart[0] is not None and apart[1] is not None:
        lines += [
            "",
            f"Two seeds of one prompt: log-mel distance {apart[0].value:.3f}, STFT distance {apart[1].value:.3f}.",
        ]
    return lines


def _origin(report: ParityReport) -> list[str]:
    """What the figures rest on."""
    parts = [
        f"bundle {report.bundle_version} `{report.bundle_digest[:12]}`",
        f"prompts `{report.settings.prompts_digest[:12]}`",
    ]
    if report.tagger_digest is not None:
        parts.append(f"tagger `{report.tagger_digest[:12]}`")
    if report.real_clips_digest is not None:
        parts.append(f"{report.real_clips} real clips `{report.real_clips_digest[:12]}`")
    tools = ", ".join(f"{name} {version}" for name, version in report.tools.items())
    threads = "1 thread" if report.settings.threads == 1 else f"{report.settings.threads} threads"
    lines = [f"Rests on {', '.join(parts)}; {threads} of {report.device['soc']}; {tools}."]
    lines += [f"Not measured: {name} ({reason})." for name, reason in report.not_measured.items()]
    return lines
