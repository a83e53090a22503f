"""What has been measured and recorded: files that the other commands wrote, read strictly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gates.quality import QualityFigure, quality_figures
from benchmarks.peers.results import Comparison
from benchmarks.render.records import grouped, read_records
from edge_tta.config import from_dict
from edge_tta.errors import ConfigError, DataError
from edge_tta.evaluate.gates import GateOutcome, judge, load_gates
from edge_tta.evaluate.statistics import Spread
from edge_tta.runtime.benchmark import BenchmarkRecord

PRECISION, THREADS, SECONDS, STEPS = "int8", 2, 10.0, 1
"""The point that the targets of speed and memory are set for."""


@dataclass(frozen=True)
class Validation:
    """One quantized variant against the float model: an entry of a ``validate/1`` file."""

    bundle: str
    version: str | None
    """None in records from before it was written."""
    digest: str
    variant: str
    precision: str
    sounds: int
    machine: str
    figures: dict[str, Spread]
    """By key of ``edge_tta.evaluate.figures.FIGURES``."""
    gates: tuple[GateOutcome, ...]
    """The recorded figures held against the packaged gates as they are now."""


@dataclass(frozen=True)
class Recorded:
    """Everything under a folder of reports."""

    points: tuple[BenchmarkRecord, ...]
    """Of every bundle on every machine, its newest version: the variants at the point of the targets."""
    validations: tuple[Validation, ...]
    comparison: Comparison | None
    quality: tuple[QualityFigure, ...]


def read_reports(folder: Path) -> Recorded:
    """Read ``*/bench.jsonl``, ``*/validate*.json``, ``*/*/evaluation.json``, ``*/codec.json`` and ``peers.json``.

    Args:
        folder: reports.

    Raises:
        DataError: a file is damaged, or there is none.
    """
    benches = sorted(folder.glob("*/bench.jsonl"))
    pages = sorted(folder.glob("*/validate*.json"))
    evaluations = sorted(folder.glob("*/*/evaluation.json"))
    codecs = sorted(folder.glob("*/codec.json"))
    peers = folder / "peers.json"
    if not benches and not pages and not evaluations and not codecs and not peers.is_file():
        raise DataError(f"{folder}: no recorded measurements")
    comparison = None
    if peers.is_file():
        try:
            comparison = from_dict(Comparison, _json(peers))
        except ConfigError as error:
            raise DataError(f"{peers}: {error}") from error
    points = [record for path in benches for record in _points(path)]
    validations = [found for path in pages for found in _validations(path)]
    quality = quality_figures(
        [(path, _json(path)) for path in evaluations], [(path, _json(path)) for path in codecs]
    )
    return Recorded(tuple(points), tuple(validations), comparison, quality)


def _points(path: Path) -> list[BenchmarkRecord]:
    """The newest bundle of every machine."""
    newest: dict[tuple[str, str], list[BenchmarkRecord]] = {}
    groups = grouped(read_records([path]).records)
    for group in sorted(groups, key=lambda group: max(record.date for record in group.records)):
        found = [
            record
            for record in group.records
            if (record.precision, record.threads, record.seconds, record.steps)
            == (PRECISION, THREADS, SECONDS, STEPS)
        ]
        if found:
            newest[found[0].fingerprint, found[0].bundle] = found
    return [record for records in newest.values() for record in records]


def _validations(path: Path) -> list[Validation]:
    data = _json(path)
    try:
        if data["schema"] != "validate/1":
            raise DataError(f"{path}: schema is {data['schema']!r}, not 'validate/1'")
        settings = data["settings"]
        gates = load_gates().gates
        found = []
        for variant in data["variants"]:
            if variant["status"] != "ran":
                continue
            figures = {key: from_dict(Spread, value) for key, value in variant["figures"].items()}
            found.append(
                Validation(
                    data["bundle"],
                    data.get("bundle_version"),
                    data["bundle_digest"],
                    variant["name"],
                    variant["precision"],
                    settings["prompts"] * settings["seeds_per_prompt"],
                    data["device"]["soc"],
                    figures,
                    judge(gates, variant["precision"], figures),
                )
            )
        return found
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise DataError(f"{path}: no validation report ({error!r})") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
