"""What a validation finds, as values: JSON, Markdown and the page are made of the same dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edge_tta.evaluate.defects import DefectCounts, Defects
from edge_tta.evaluate.gates import GateOutcome
from edge_tta.evaluate.statistics import Estimate, Spread

SCHEMA = "validate/1"

Status = Literal["ran", "failed", "not run"]


@dataclass(frozen=True)
class ParitySettings:
    """What was made, and of what."""

    prompts: int
    prompts_digest: str
    """SHA-256 of the prompts that were used, with labels and seeds."""
    suites: tuple[str, ...]
    seeds_per_prompt: int
    first_seed: int
    """Prompt number p (from 0) uses the seeds first_seed + p * seeds_per_prompt and following."""
    seconds: float
    steps: int
    guidance: float
    threads: int


@dataclass(frozen=True)
class ClipParity:
    """One sound of a variant beside the reference's sound of the same prompt and noise.

    Every stage is first judged on its own, with the reference's input, so that errors do not add up; the figures after
    them are end to end, from the prompt.
    """

    prompt: str
    suite: str
    labels: tuple[str, ...]
    seed: int
    tokens_snr_db: float
    """Text encoder: token features."""
    pooled_snr_db: float
    """Text encoder: sentence vector."""
    generator_snr_db: float
    """Generator with the reference's text features: clean latent."""
    decoder_snr_db: float
    """Decoder with the reference's latent: waveform."""
    decoder_log_mel: float
    decoder_stft: float
    latent_snr_db: float
    """End to end."""
    waveform_snr_db: float
    log_mel: float
    stft: float
    loudness_lufs: float | None
    loudness_change_lu: float | None
    """None where one of the two sounds is silent."""
    defects: Defects
    rank: int | None
    """Place of the prompt's label in the tagger's list, 0 is first; None without a tagger or a label it knows."""
    reference_rank: int | None


@dataclass(frozen=True)
class Levels:
    """Figures of one set of sounds by itself; None where it was not measured."""

    loudness_lufs: Estimate | None
    top1: Estimate | None
    """Share of sounds whose label the tagger ranks first."""
    top5: Estimate | None
    frechet: Estimate | None
    """Fréchet distance to real clips."""
    defects: DefectCounts


@dataclass(frozen=True)
class VariantParity:
    """One variant against the reference."""

    name: str
    backend: str
    precision: str
    file_bytes: int
    status: Status
    reason: str = ""
    """Why it did not run or broke off."""
    figures: dict[str, Spread] = field(default_factory=dict)
    """By key of ``edge_tta.evaluate.figures.FIGURES``."""
    levels: Levels | None = None
    gates: tuple[GateOutcome, ...] = ()
    worst: tuple[int, ...] = ()
    """Positions in ``clips`` of the sounds that are worth playing, largest end-to-end log-mel distance first."""
    clips: tuple[ClipParity, ...] = ()
    calibrated_on: str = ""
    """Name of a list that it is judged by and that its ranges were found on; empty where none is known to be one."""

    @property
    def passed(self) -> bool | None:
        """Whether it did not break and no gate failed; None where nothing was judged."""
        if self.status == "failed":
            return False
        return _all_passed([gate.passed for gate in self.gates])


@dataclass(frozen=True)
class ReferenceParity:
    """What the variants are held against."""

    name: str
    """Variant of the bundle, or name of a checkpoint."""
    backend: str
    levels: Levels
    seed_log_mel: Spread | None
    """Log-mel distance between two seeds of one prompt: how far apart two different sounds are."""
    seed_stft: Spread | None


@dataclass(frozen=True)
class ParityReport:
    """Everything a validation finds."""

    schema: str
    bundle: str
    bundle_version: str
    bundle_digest: str
    bundle_commit: str
    device: dict[str, Any]
    tools: dict[str, str]
    """Versions of what computed."""
    settings: ParitySettings
    tagger_digest: str | None
    real_clips: int
    """Real clips the Fréchet distance rests on."""
    real_clips_digest: str | None
    """SHA-256 of their metadata."""
    not_measured: dict[str, str]
    """Reasons by kind of figure."""
    gates_name: str
    reference: ReferenceParity
    variants: tuple[VariantParity, ...]

    @property
    def passed(self) -> bool | None:
        """Whether no variant failed; None where nothing was judged."""
        return _all_passed([variant.passed for variant in self.variants])

    @property
    def sounds(self) -> int:
        """Sounds per variant."""
        return self.settings.prompts * self.settings.seeds_per_prompt


def _all_passed(verdicts: Sequence[bool | None]) -> bool | None:
    """False with one failure, None without a verdict."""
    known = [verdict for verdict in verdicts if verdict is not None]
    return all(known) if known else None
