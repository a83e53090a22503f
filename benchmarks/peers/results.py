"""What a comparison finds, as plain values (schema "peers/1")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_tta.runtime.contention import Contention
from edge_tta.runtime.device import Device


@dataclass(frozen=True)
class Block:
    """Sounds made one after the other in one process; times in seconds."""

    runs: tuple[dict[str, float], ...]
    """By part or stage, "total" among them."""
    load_seconds: float
    peak_rss_bytes: int
    contention: Contention

    @property
    def totals(self) -> list[float]:
        """Seconds of every sound."""
        return [run["total"] for run in self.runs]

    def median(self, name: str = "total") -> float:
        """Seconds of a part, or of the whole."""
        return float(np.median([run[name] for run in self.runs]))


@dataclass(frozen=True)
class Candidate:
    """One ONNX form of a part."""

    name: str
    file_bytes: int
    seconds: tuple[float, ...]
    """Every timed call."""
    snr_db: float | None
    """Against the first form, which is float; None for that one."""

    @property
    def best(self) -> float:
        """Fastest call: the one that others disturbed least."""
        return min(self.seconds)


@dataclass(frozen=True)
class PartResult:
    """One network."""

    name: str
    stage: str
    parameters: int
    calls: int
    gflop: float
    """Of one call, two for a multiplication and addition."""
    candidates: tuple[Candidate, ...] = ()
    chosen: str = ""
    """Candidate that the ONNX blocks ran."""


@dataclass(frozen=True)
class PeerResult:
    """One peer."""

    name: str
    title: str
    seconds: float
    """Duration of every sound."""
    sample_rate: int
    channels: int
    steps: int
    parts: tuple[PartResult, ...]
    eager: Block
    onnx: Block


@dataclass(frozen=True)
class OwnResult:
    """One variant of a bundle of ours."""

    bundle: str
    digest: str
    variant: str
    weights: Literal["shipped", "random"]
    seconds: float
    sample_rate: int
    channels: int
    parts: tuple[PartResult, ...]
    blocks: tuple[Block, ...]
    """Before, between and after the peers' blocks."""

    @property
    def name(self) -> str:
        """Bundle and variant."""
        return f"{self.bundle} {self.variant}"

    @property
    def totals(self) -> list[float]:
        """Seconds of every sound of all blocks."""
        return [seconds for block in self.blocks for seconds in block.totals]


@dataclass(frozen=True)
class Rates:
    """What matrix products of 2048 x 2048 by 2048 x 2048 reach here in ONNX Runtime, 10^9 operations a second."""

    float32: float
    int8: float


@dataclass(frozen=True)
class Comparison:
    """Everything of one run."""

    schema: Literal["peers/1"]
    date: str
    commit: str | None
    device: Device
    fingerprint: str
    python: str
    versions: dict[str, str]
    threads: int
    tiny: bool
    rates: Rates
    ours: tuple[OwnResult, ...]
    peers: tuple[PeerResult, ...]
