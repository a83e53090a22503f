"""What an evaluation finds, as values: the same dataclasses become JSON and Markdown."""

from __future__ import annotations

from dataclasses import dataclass

from edge_tta.evaluate.adherence import Adherence
from edge_tta.evaluate.codec import CodecFigures
from edge_tta.evaluate.diversity import Diversity
from edge_tta.evaluate.embedder_figures import EmbedderFigures
from edge_tta.evaluate.intelligibility import Intelligibility
from edge_tta.evaluate.spectral_step import SpectralStep
from edge_tta.evaluate.statistics import Estimate

SCHEMA = 2


@dataclass(frozen=True)
class Provenance:
    """What figures rest on; two reports may be compared only if embedder and reference are the same."""

    embedder: str
    """Digest of the tagger."""
    reference: str
    """SHA-256 of the reference folder's metadata."""
    prompts: str | None
    """SHA-256 of the prompt list; None for a codec."""
    subject: str
    """Name of what was judged."""
    subject_digest: str | None
    """SHA-256 of the bundle's manifest; None where there is none."""


@dataclass(frozen=True)
class Settings:
    """How clips were generated."""

    seeds_per_prompt: int
    seconds: float
    steps: int
    guidance: float | None
    precision: str
    first_seed: int
    """Prompt number p (from 0) uses the seeds first_seed + p * seeds_per_prompt and following."""


@dataclass(frozen=True)
class SuiteFigures:
    """Figures of the single-label prompts of one suite."""

    suite: str
    prompts: int
    adherence: Adherence
    relative_top5: float | None
    """Top-5 share over that of real validation clips, of the labels that have some; None where no label has."""


@dataclass(frozen=True)
class TwoSounds:
    """Figures of the two-label prompts of one suite."""

    suite: str
    prompts: int
    both: Estimate
    """Share of generated clips with both labels among the first five."""
    real_mixtures: Estimate | None
    """The same for mixtures of two real validation clips of equal level, every pair in the share that it has among the
    prompts; None where there are none."""


@dataclass(frozen=True)
class GeneratorReport:
    """Everything :func:`evaluate_bundle` finds."""

    schema: int
    provenance: Provenance
    settings: Settings
    suites: tuple[SuiteFigures, ...]
    real: Adherence
    """Real validation clips of the prompted labels: the ceiling. Labels count as often as they are asked for, however
    many clips there are of each."""
    two_sounds: tuple[TwoSounds, ...]
    frechet_generated: Estimate
    """Generated clips against real training clips, of labels that have real validation clips."""
    frechet_real: Estimate
    """As many real validation clips of each label against the same reference: the floor."""
    embedding_diversity: Diversity | None
    timbre_diversity: Diversity | None
    skipped_prompts: tuple[str, ...]
    """Prompts with a label unknown to the tagger."""
    embedders: tuple[EmbedderFigures, ...] = ()
    """What the tagger, and every further embedder, makes of the single-label prompts."""
    intelligibility: Intelligibility | None = None
    """Where the tagger is a classifier of spoken digits: how many it understands."""
    step_generated: SpectralStep | None = None
    """Of the single-label prompts: the largest step in their mean spectrum."""
    step_real: SpectralStep | None = None
    """The same of the real training clips."""
    labels_without_real: tuple[str, ...] = ()
    """Prompted labels that no real validation clip has: they are in no figure that is held against such clips."""


@dataclass(frozen=True)
class CodecReport:
    """Everything :func:`evaluate_codec` finds."""

    schema: int
    provenance: Provenance
    figures: CodecFigures
