"""Targets of quality, and what evaluations recorded of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_tta.errors import DataError

RELATIVE_TOP5, PARAPHRASE_POINTS, BOTH_PERCENT, DIVERSITY, CODEC_POINTS = 0.85, -5.0, 50.0, 0.5, -2.0


@dataclass(frozen=True)
class QualityFigure:
    """A figure beside its target."""

    title: str
    least: float
    unit: str
    digits: int
    subject: str
    measured_on: str
    value: float | None
    """None where it was not measured."""
    low: float | None = None
    high: float | None = None
    """Ends of the 95 % interval; None where the record has none."""


def quality_figures(
    evaluations: Iterable[tuple[Path, Any]], codecs: Iterable[tuple[Path, Any]]
) -> tuple[QualityFigure, ...]:
    """Figures with a target, of ``evaluation.json`` and ``codec.json`` files.

    Args:
        evaluations: what ``edge-tta evaluate`` wrote, with its file.
        codecs: what ``edge-tta evaluate-codec`` wrote.

    Raises:
        DataError: a file lacks something.
    """
    found: list[QualityFigure] = []
    labels: dict[str, Mapping[str, Any]] = {}
    loaded = sorted(evaluations, key=lambda one: (not _is_of(one[1], "labels"), str(one[0])))
    for path, data in loaded:
        try:
            found += _of_evaluation(data, labels)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: no evaluation report ({error!r})") from error
    for path, data in codecs:
        try:
            found += _of_codec(data)
        except (KeyError, TypeError) as error:
            raise DataError(f"{path}: no report of a codec ({error!r})") from error
    return tuple(found)


def _is_of(data: Any, suite: str) -> bool:
    suites = data.get("suites", ()) if isinstance(data, dict) else ()
    return any(isinstance(one, dict) and one.get("suite") == suite for one in suites)


def _of_evaluation(data: Any, labels: dict[str, Mapping[str, Any]]) -> list[QualityFigure]:
    """Rows of one evaluation; ``labels`` keeps adherence to plain labels, which that to paraphrases is held against."""
    origin, settings = data["provenance"], data["settings"]
    digest = origin["subject_digest"]
    subject = origin["subject"] + (f", `{digest[:12]}`" if digest else "")
    same = repr((origin["subject"], digest, origin["embedder"], sorted(settings.items())))
    seeds, steps = settings["seeds_per_prompt"], settings["steps"]
    how = settings["precision"] + ("" if steps == 1 else f", {steps} steps")
    rows = []
    for suite in data["suites"]:
        on = f"{suite['suite']}: {suite['prompts']} prompts × {seeds} seeds, {how}"
        adherence = suite["adherence"]
        if suite["suite"] == "labels":
            labels[same] = adherence
            title = "label among five, share of the real clips' own"
            relative = suite["relative_top5"]
            share = None if relative is None else float(relative)
            rows.append(QualityFigure(title, RELATIVE_TOP5, "", 2, subject, on, share))
        elif suite["suite"] == "paraphrases":
            for key, name in (("top1", "label first"), ("top5", "label among five")):
                value = None
                if same in labels:
                    # Shares of a few hundred clips: 76 % less 81 % are 5 points, whatever binary fractions say.
                    value = round(100 * (adherence[key]["value"] - labels[same][key]["value"]), 6)
                title = f"{name}, paraphrases minus labels"
                rows.append(QualityFigure(title, PARAPHRASE_POINTS, " points", 1, subject, on, value))
    suites = ", ".join(suite["suite"] for suite in data["suites"])
    for both in data["two_sounds"]:
        on = f"{both['prompts']} prompts × {seeds} seeds, {how}"
        title = f"{both['suite']}: both among five"
        rows.append(_row(title, BOTH_PERCENT, " %", 1, subject, on, both["both"], 100))
    for kind in ("timbre", "embedding"):
        diversity = data[f"{kind}_diversity"]
        if diversity is not None:
            title = f"diversity across seeds over that of real clips: {kind}"
            on = f"{suites}: {diversity['ratio']['n']} labels, {how}"
            rows.append(_row(title, DIVERSITY, "", 2, subject, on, diversity["ratio"], 1))
    return rows


def _of_codec(data: Any) -> list[QualityFigure]:
    subject, figures = data["provenance"]["subject"], data["figures"]
    change, after, before = (figures[key] for key in ("top1_change", "reconstructed_top5", "original_top5"))
    on = f"{change['n']} validation clips"
    five = 100 * (after["value"] - before["value"])
    return [
        _row("codec: label first, reconstructed minus original", CODEC_POINTS, " points", 1, subject, on, change, 100),
        QualityFigure(
            "codec: label among five, reconstructed minus original", CODEC_POINTS, " points", 1, subject, on, five
        ),
    ]  # fmt: skip


def _row(
    title: str,
    least: float,
    unit: str,
    digits: int,
    subject: str,
    measured_on: str,
    estimate: Any,
    scale: float,
) -> QualityFigure:
    value, low, high = (scale * estimate[key] for key in ("value", "low", "high"))
    return QualityFigure(title, least, unit, digits, subject, measured_on, value, low, high)
