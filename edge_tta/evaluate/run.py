"""Entry points: judge a bundle, or a codec, and leave JSON, Markdown and a contact sheet behind."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_tta.catalog import METADATA_FILE
from edge_tta.errors import DataError
from edge_tta.evaluate.clips import read_clips
from edge_tta.evaluate.codec import Reconstruct, codec_figures
from edge_tta.evaluate.contact_sheet import write_contact_sheet
from edge_tta.evaluate.embedders import Embedder, open_embedders
from edge_tta.evaluate.gallery import FirstSounds, gallery_page
from edge_tta.evaluate.generated import SHEET_LABELS, Generate, Progress, evaluate_generator
from edge_tta.evaluate.report import codec_markdown, generator_markdown, write_report
from edge_tta.evaluate.results import SCHEMA, CodecReport, GeneratorReport, Provenance, Settings
from edge_tta.evaluate.spectral import FloatArray
from edge_tta.evaluate.suite import Prompt, read_prompts
from edge_tta.evaluate.tagger import load_tagger
from edge_tta.evaluate.threads import bounded_threads
from edge_tta.evaluate.transient_sheet import write_transient_sheet
from edge_tta.files import make_folder, write_file

SHEET_ONSETS = 16
"""Onsets that are drawn, one of a label."""

__all__ = [
    "CodecReport",
    "Generate",
    "GeneratorReport",
    "Progress",
    "Provenance",
    "Settings",
    "evaluate_bundle",
    "evaluate_codec",
    "evaluate_generator",
]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def evaluate_bundle(
    bundle: Path | str | None,
    prompts_csv: Path,
    reference_dir: Path,
    tagger_dir: Path,
    output_dir: Path,
    *,
    seeds_per_prompt: int = 4,
    seconds: float = 5.0,
    steps: int = 1,
    guidance: float | None = None,
    precision: str = "int8",
    backend: str = "auto",
    threads: int | None = None,
    first_seed: int = 0,
    embedders: Sequence[str] = (),
    write_audio: bool = False,
    write_page: bool = False,
    on_progress: Progress | None = None,
) -> GeneratorReport:
    """Generate from every prompt with a bundle and judge the result.

    Args:
        bundle: path or name of the bundle, None for the default one.
        prompts_csv: see :func:`edge_tta.evaluate.suite.read_prompts`.
        reference_dir: folder with ``metadata.csv`` of real clips.
        tagger_dir: folder that holds the tagger.
        output_dir: gets ``evaluation.json``, ``evaluation.md`` and ``contact_sheet.png``.
        seeds_per_prompt: clips per prompt; diversity needs two.
        seconds: duration of every clip.
        steps: sampling steps.
        guidance: guidance strength, None for the bundle's own.
        precision: variant of the bundle.
        backend: runtime backend.
        threads: threads of the bundle, of the judges and of the matrix library, None for the runtime's choice.
        first_seed: seed of the first clip.
        embedders: further judges, see :func:`edge_tta.evaluate.embedders.open_embedders`.
        write_audio: keep the clips as WAV below ``output_dir / "audio"``.
        write_page: also write ``sounds.html``, a page with the first sound of every prompt to listen to.
        on_progress: called after every clip.

    Raises:
        DataError, ConfigError, BundleError, BackendError, RequestError, OutputError, MissingExtraError: as the
            parts say.
    """
    from edge_tta.audio import write_audio as write_audio_file
    from edge_tta.bundle import Bundle
    from edge_tta.runtime.pipeline import TextToAudio, checked_threads
    from edge_tta.runtime.request import GenerationRequest

    if seeds_per_prompt < 1:
        raise DataError(f"seeds per prompt must be at least 1, got {seeds_per_prompt}")
    prompts = read_prompts(prompts_csv)
    tagger = load_tagger(tagger_dir)
    judges: tuple[Embedder, ...] = open_embedders(embedders)
    reference_dir, output_dir = Path(reference_dir), Path(output_dir)
    opened = Bundle.open(bundle)
    provenance = Provenance(
        embedder=tagger.digest,
        reference=file_digest(reference_dir / METADATA_FILE),
        prompts=file_digest(Path(prompts_csv)),
        subject=opened.manifest.name,
        subject_digest=opened.digest,
    )
    settings = Settings(seeds_per_prompt, seconds, steps, guidance, precision, first_seed)
    audio_dir = output_dir / "audio"
    make_folder(audio_dir if write_audio else output_dir)
    rate, first = tagger.config.mel.sample_rate, FirstSounds()
    threads = checked_threads(threads)
    with (
        bounded_threads(threads),
        TextToAudio.open(opened, backend=backend, precision=precision, threads=threads) as model,
    ):

        def generate(prompt: Prompt, seed: int) -> FloatArray:
            request = GenerationRequest(
                prompt.text, seconds=seconds, seed=seed, steps=steps, guidance=guidance
            )
            audio = model.generate(request).audio
            if write_page:
                first.add(prompt, seed, audio)
            if audio.sample_rate != rate:
                raise DataError(f"the tagger listens at {rate} Hz, the bundle makes {audio.sample_rate} Hz")
            if write_audio:
                name = "_".join(prompt.labels).replace(" ", "-").replace("/", "-")
                write_audio_file(audio, audio_dir / f"{seed:05d}_{prompt.suite}_{name}.wav")
            return np.asarray(audio.samples.mean(axis=0), dtype=np.float32)

        report, entries = evaluate_generator(
            generate,
            prompts,
            reference_dir,
            tagger,
            settings,
            provenance,
            embedders=judges,
            on_progress=on_progress,
        )
    write_report(report, generator_markdown(report), output_dir, "evaluation")
    write_contact_sheet(entries, output_dir / "contact_sheet.png", rate)
    if write_page:
        write_file(output_dir / "sounds.html", gallery_page(report, first.exhibits, tagger).encode())
    return report


def evaluate_codec(
    reconstruct: Reconstruct,
    reference_dir: Path,
    tagger_dir: Path,
    output_dir: Path,
    *,
    subject: str = "codec",
    splits: Sequence[str] = ("val",),
    random_seed: int = 0,
    threads: int | None = None,
    on_progress: Progress | None = None,
) -> CodecReport:
    """Put real clips through a codec and judge the reconstructions.

    Args:
        reconstruct: one channel [frames] to [frames] or [1, frames], at the tagger's sample rate.
        reference_dir: folder with ``metadata.csv`` of real clips.
        tagger_dir: folder that holds the tagger.
        output_dir: gets ``codec.json``, ``codec.md``, ``codec_sheet.png`` and, where a clip has a clear onset,
            ``codec_transients.png``.
        subject: name of the codec for the report.
        splits: clips to use; ``val`` clips were seen neither by codec nor by tagger.
        random_seed: seed of the bootstrap.
        threads: threads of codec, tagger and matrix library, None for the runtime's choice.
        on_progress: called after every clip.

    Raises:
        DataError, OutputError, RequestError, MissingExtraError: as the parts say.
    """
    from edge_tta.runtime.pipeline import checked_threads

    threads = checked_threads(threads)
    tagger = load_tagger(tagger_dir)
    reference_dir, output_dir = Path(reference_dir), Path(output_dir)
    clips = read_clips(reference_dir, splits)
    make_folder(output_dir)
    generator = np.random.default_rng(random_seed)
    with bounded_threads(threads):
        judged = codec_figures(
            reconstruct, clips, tagger, generator, sheet_labels=SHEET_LABELS, on_progress=on_progress
        )
    digest = file_digest(reference_dir / METADATA_FILE)
    report = CodecReport(SCHEMA, Provenance(tagger.digest, digest, None, subject, None), judged.figures)
    write_report(report, codec_markdown(report), output_dir, "codec")
    rate = tagger.config.mel.sample_rate
    write_contact_sheet(judged.entries, output_dir / "codec_sheet.png", rate, below="reconstructed")
    if judged.onsets:
        firsts = list({onset.label: onset for onset in reversed(judged.onsets)}.values())[::-1]
        write_transient_sheet(firsts[:SHEET_ONSETS], output_dir / "codec_transients.png", rate)
    return report
