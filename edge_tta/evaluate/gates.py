"""Gates: limits that the figures of a variant must keep, read from a TOML file."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from edge_tta.bundle.entries import Precision
from edge_tta.config import from_dict
from edge_tta.errors import ConfigError
from edge_tta.evaluate.figures import FIGURES
from edge_tta.evaluate.statistics import Spread

Statistic = Literal["value", "low", "high", "median", "lowest", "highest"]


@dataclass(frozen=True)
class Gate:
    """One limit."""

    title: str
    figure: str
    """Key of ``edge_tta.evaluate.figures.FIGURES``."""
    at_least: float | None = None
    at_most: float | None = None
    statistic: Statistic = "value"
    """What of the figure is held against the limit: its mean, an end of the 95 % interval, or an extreme."""
    precisions: tuple[Precision, ...] = ()
    """Precisions it applies to; none for all."""
    reason: str = ""

    def __post_init__(self) -> None:
        if self.figure not in FIGURES:
            raise ConfigError(
                f"gate '{self.title}': unknown figure '{self.figure}'; known are {', '.join(FIGURES)}"
            )
        if (self.at_least is None) == (self.at_most is None):
            raise ConfigError(f"gate '{self.title}': one of at_least and at_most is needed")
        for name in ("at_least", "at_most"):
            limit = getattr(self, name)
            if limit is not None and not math.isfinite(limit):
                raise ConfigError(f"gate '{self.title}': {name} {limit} is no finite number")


@dataclass(frozen=True)
class GateList:
    """The gates of one file."""

    name: str
    gates: tuple[Gate, ...] = ()


@dataclass(frozen=True)
class GateOutcome:
    """A gate and what was measured."""

    title: str
    figure: str
    statistic: str
    at_least: float | None
    at_most: float | None
    reason: str
    measured: float | None
    """None where the figure was not measured."""
    passed: bool | None
    """None where the figure was not measured."""
    decisive: bool | None
    """Whether the whole 95 % interval is on the same side of the limit; None without an interval."""


def load_gates(path: Path | None = None) -> GateList:
    """Gates of a TOML file; the packaged ones without a path.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    source: Traversable = (
        resources.files("edge_tta.evaluate").joinpath("gates.toml") if path is None else path
    )
    try:
        document = tomllib.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return from_dict(GateList, document, str(path or "gates.toml"))


def judge(gates: Sequence[Gate], precision: str, figures: Mapping[str, Spread]) -> tuple[GateOutcome, ...]:
    """Hold the figures of a variant against the gates of its precision."""
    return tuple(
        _outcome(gate, figures.get(gate.figure))
        for gate in gates
        if not gate.precisions or precision in gate.precisions
    )


def _outcome(gate: Gate, figure: Spread | None) -> GateOutcome:
    measured: float | None = None if figure is None else getattr(figure, gate.statistic)
    passed = decisive = None
    if figure is not None and measured is not None:
        passed = _keeps(gate, measured)
        if gate.statistic == "value":
            decisive = all(_keeps(gate, end) == passed for end in (figure.low, figure.high))
    return GateOutcome(
        gate.title,
        gate.figure,
        gate.statistic,
        gate.at_least,
        gate.at_most,
        gate.reason,
        measured,
        passed,
        decisive,
    )


def _keeps(gate: Gate, value: float) -> bool:
    if gate.at_least is not None:
        return value >= gate.at_least
    assert gate.at_most is not None
    return value <= gate.at_most
