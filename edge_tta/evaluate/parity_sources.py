"""What a validation needs beside the variants: settings, prompts, the reference, and who listens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_tta.bundle import Bundle
from edge_tta.catalog import METADATA_FILE, Clip
from edge_tta.errors import BackendError, ConfigError, DataError, MissingExtraError
from edge_tta.evaluate.clips import balanced, load_clip, read_clips
from edge_tta.evaluate.run import file_digest
from edge_tta.evaluate.suite import Prompt, find_prompts, read_prompts
from edge_tta.evaluate.tagger import Tagger, load_tagger
from edge_tta.runtime.backend import BUNDLE_BACKENDS, LoadedModel, load_variant
from edge_tta.runtime.pipeline import TextToAudio

DEFAULT_PROMPTS = ("labels", "paraphrases")
DEFAULT_TAGGER = Path("checkpoints/tagger")


@dataclass(frozen=True)
class ValidationOptions:
    """What to compare, on which sounds."""

    reference: str | None = None
    """Variant of the bundle, or folder of a model checkpoint for torch in fp32; None for the bundle's own fp32."""
    variants: tuple[str, ...] = ()
    """Variants to compare; none for all but the reference."""
    prompts: tuple[str, ...] = DEFAULT_PROMPTS
    """Packaged prompt lists by name, or CSV files."""
    count: int = 64
    """Prompts, spread evenly over the lists."""
    seeds: int = 2
    """Sounds per prompt."""
    first_seed: int = 0
    seconds: float = 5.0
    steps: int = 1
    guidance: float | None = None
    """None for the bundle's own."""
    threads: int | None = None
    tagger: Path | None = None
    """Folder of the tagger; None for ``checkpoints/tagger`` where there is one."""
    reference_clips: Path | None = None
    """Folder of real clips, without which there is no Fréchet distance."""
    gates: Path | None = None
    """TOML file; None for the packaged gates."""
    worst: int = 5
    """Sounds per variant that are kept for the page."""

    def __post_init__(self) -> None:
        for name, low in (("count", 1), ("seeds", 1), ("worst", 0)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} {getattr(self, name)} is out of range: at least {low}")


@dataclass(frozen=True, eq=False)
class Listeners:
    """The tagger and the real clips, or why they are not there."""

    tagger: Tagger | None
    clips: tuple[Clip, ...]
    """Real clips of the prompted labels, equally many of each as far as there are."""
    clips_digest: str | None
    """SHA-256 of their metadata."""
    not_measured: dict[str, str]
    """Reasons by kind of figure."""


def read_suites(names: Sequence[str]) -> list[Prompt]:
    """Prompts of several lists, one after the other.

    Raises:
        DataError: see :func:`edge_tta.evaluate.suite.read_prompts`.
    """
    return [prompt for name in names for prompt in read_prompts(find_prompts(name))]


def lists_in_use(names: Sequence[str], chosen: Sequence[Prompt]) -> dict[str, str]:
    """Names of the lists that have a part in the prompts that are used, by SHA-256 of their files.

    Raises:
        DataError: see :func:`edge_tta.evaluate.suite.read_prompts`.
    """
    texts = {prompt.text for prompt in chosen}
    files = {str(name): find_prompts(name) for name in names}
    return {
        file_digest(file): name
        for name, file in files.items()
        if any(prompt.text in texts for prompt in read_prompts(file))
    }


def open_reference(bundle: Bundle, name: str | None, threads: int) -> tuple[str, LoadedModel]:
    """The model that variants are held against, with its name.

    Args:
        bundle: the bundle that is validated.
        name: see ``ValidationOptions.reference``.
        threads: threads a stage may use.

    Raises:
        ConfigError: neither a variant nor a folder, or a checkpoint of another model.
        BackendError: no fp32 variant runs here, or the one that was named does not.
        BundleError: a file of the variant is damaged.
        MissingExtraError: a checkpoint needs torch.
    """
    if name is None:
        return _own_reference(bundle, threads)
    if name in bundle.variants:
        return name, load_variant(bundle, name, threads)
    folder = Path(name)
    if not folder.is_dir():
        variants = ", ".join(sorted(bundle.variants))
        raise ConfigError(
            f"reference '{name[:80]}' is neither a folder nor one of {bundle.name}'s variants: {variants}"
        )
    model = TextToAudio.open(folder, backend="eager", precision="fp32", threads=threads).model
    same_words = file_digest(folder / "tokenizer.model") == bundle.manifest.tokenizer.sha256
    if not same_words or model.audio != bundle.config.audio:
        raise ConfigError(f"{folder} is another model: its tokenizer or audio format is not {bundle.name}'s")
    return folder.resolve().name, model


def _own_reference(bundle: Bundle, threads: int) -> tuple[str, LoadedModel]:
    """The first fp32 variant that runs here, in the order in which backends are preferred."""
    order = [*BUNDLE_BACKENDS]
    names = [name for name, variant in sorted(bundle.variants.items()) if variant.precision == "fp32"]
    known = [name for name in names if bundle.variants[name].backend in order]
    reasons = []
    for name in sorted(known, key=lambda name: order.index(bundle.variants[name].backend)):
        try:
            return name, load_variant(bundle, name, threads)
        except (BackendError, MissingExtraError) as error:
            reasons.append(str(error))
    why = f" ({'; '.join(reasons)})" if reasons else ""
    raise BackendError(
        f"bundle {bundle.name} has no fp32 variant that runs here{why}: name a checkpoint as reference"
    )


def find_listeners(
    options: ValidationOptions, prompts: Sequence[Prompt], sample_rate: int, generator: np.random.Generator
) -> Listeners:
    """The tagger and real clips of the prompted labels.

    Args:
        options: where they are.
        prompts: those that are used.
        sample_rate: Hz of the sounds.
        generator: draws among the clips of a label.

    Raises:
        DataError: a folder that was named is not what it should be.
    """
    tagger, reason = _find_tagger(options.tagger, sample_rate)
    labels = {prompt.labels[0] for prompt in prompts if len(prompt.labels) == 1}
    if tagger is not None:
        labels = {label for label in labels if tagger.index(label) is not None}
        if not labels:
            tagger, reason = None, "no prompt has a label that the tagger knows"
    # Read in any case: a wrong folder is told before an hour of work.
    real = None if options.reference_clips is None else read_clips(options.reference_clips, ("train",))
    if tagger is None:
        return Listeners(None, (), None, {"adherence": reason, "Fréchet distance": reason})
    if options.reference_clips is None or real is None:
        return Listeners(tagger, (), None, {"Fréchet distance": "no folder of real clips was given"})
    chosen = tuple(balanced(real, labels, generator))
    if len(chosen) < 2:
        raise DataError(
            f"{options.reference_clips}: fewer than two clips of split 'train' have one of the prompts' labels"
        )
    return Listeners(tagger, chosen, file_digest(options.reference_clips / METADATA_FILE), {})


def _find_tagger(folder: Path | None, sample_rate: int) -> tuple[Tagger | None, str]:
    """The tagger, or why there is none; a folder that was asked for must be one."""
    if folder is None and not DEFAULT_TAGGER.is_dir():
        return None, f"there is no tagger in {DEFAULT_TAGGER} here; --tagger names another folder"
    try:
        tagger = load_tagger(folder or DEFAULT_TAGGER)
    except MissingExtraError as error:
        return None, str(error)
    rate = tagger.config.mel.sample_rate
    if rate != sample_rate:
        return None, f"the tagger listens at {rate} Hz, the bundle makes {sample_rate} Hz"
    return tagger, ""


def real_embedding(tagger: Tagger, clip: Clip) -> np.ndarray:
    """Embedding [D] of a real clip.

    Raises:
        DataError: it is not readable audio.
    """
    rate = tagger.config.mel.sample_rate
    return tagger.tag([load_clip(clip.path, rate)], rate).embeddings[0]
