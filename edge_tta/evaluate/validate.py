"""Entry point: hold every variant of a bundle against the float reference, and leave page, JSON and Markdown behind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from edge_tta.bundle import Bundle
from edge_tta.errors import ConfigError, RequestError
from edge_tta.evaluate.gates import load_gates
from edge_tta.evaluate.parity import Item, choose_prompts, make_items
from edge_tta.evaluate.parity_markdown import parity_markdown
from edge_tta.evaluate.parity_page import parity_page
from edge_tta.evaluate.parity_pairs import HeardPair
from edge_tta.evaluate.parity_results import (
    SCHEMA,
    ParityReport,
    ParitySettings,
    ReferenceParity,
    VariantParity,
)
from edge_tta.evaluate.parity_session import Loader, OnProgress, ParitySession
from edge_tta.evaluate.parity_sources import (
    Listeners,
    ValidationOptions,
    find_listeners,
    lists_in_use,
    open_reference,
    read_suites,
)
from edge_tta.evaluate.rendition import RenditionStore
from edge_tta.evaluate.report import report_json
from edge_tta.evaluate.threads import bounded_threads
from edge_tta.files import make_folder, write_file
from edge_tta.runtime.backend import load_variant
from edge_tta.runtime.device import describe_device
from edge_tta.runtime.pipeline import checked_threads

TOOLS = ("edge-tta", "numpy", "onnxruntime", "torch", "executorch", "coremltools", "pyloudnorm")


def validate_bundle(
    source: str | Path | None,
    output: Path,
    options: ValidationOptions | None = None,
    *,
    on_progress: OnProgress | None = None,
    load: Loader = load_variant,
) -> ParityReport:
    """Hold the variants of a bundle against the float reference, with the same prompts and noise.

    Args:
        source: bundle folder or name, None for the default one.
        output: folder that gets ``validate.html``, ``validate.json`` and ``validate.md`` when all is measured.
        options: what to compare on which sounds.
        on_progress: told after every sound.
        load: opens the variants that are compared; another one may run what this machine cannot.

    Raises:
        BundleError, BackendError, ConfigError, DataError, RequestError, OutputError, MissingExtraError: as the parts
            say. A variant that does not run here, or breaks while it runs, is no error but a result.
    """
    options = options or ValidationOptions()
    gates = load_gates(options.gates)
    prompts = choose_prompts(read_suites(options.prompts), options.count)
    items = make_items(
        prompts,
        options.seeds,
        options.first_seed,
        seconds=options.seconds,
        steps=options.steps,
        guidance=options.guidance,
    )
    for item in items:
        if len(item.request.layers) > 1:
            raise RequestError(
                f"{item.prompt.text!r} names several sounds: stages are compared sound by sound"
            )
    bundle = Bundle.open(source)
    threads = checked_threads(options.threads)
    _check_names(bundle, options.variants)
    listeners = find_listeners(options, prompts, bundle.config.audio.sample_rate, np.random.default_rng(0))
    with (
        bounded_threads(threads),
        _output_folder(output),
        tempfile.TemporaryDirectory(prefix="edge-tta-validate-") as scratch,
    ):
        reference_name, model = open_reference(bundle, options.reference, threads)
        try:
            chosen = [name for name in options.variants or sorted(bundle.variants) if name != reference_name]
            if not chosen:
                raise ConfigError(f"{bundle.name} has no variant beside its own {reference_name}")
            store = RenditionStore(Path(scratch))
            session = ParitySession(items, listeners, store, len(chosen), on_progress, load)
            reference = session.make_reference(reference_name, model)
        finally:
            model.backend.close()
        compared = [session.compare(bundle, name, threads, gates.gates, options.worst) for name in chosen]
        lists = lists_in_use(options.prompts, prompts)
        settings = _settings(bundle, options, items, threads)
        report = _report(
            bundle,
            settings,
            listeners,
            gates.name,
            reference,
            tuple(_with_calibration(bundle, variant, lists) for variant, _ in compared),
        )
        _write(report, {variant.name: pairs for variant, pairs in compared}, output)
    return report


def _check_names(bundle: Bundle, names: Sequence[str]) -> None:
    for name in names:
        if name not in bundle.variants:
            known = ", ".join(sorted(bundle.variants))
            raise ConfigError(f"{bundle.name} has no variant '{name[:80]}'; it has {known}")


@contextlib.contextmanager
def _output_folder(path: Path) -> Iterator[None]:
    """A folder that is made before the work begins, and is gone again if it ends with nothing in it."""
    existed = path.exists()
    make_folder(path)
    try:
        yield
    except BaseException:
        if not existed:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def _write(report: ParityReport, pairs: dict[str, tuple[HeardPair, ...]], output: Path) -> None:
    documents = {
        "validate.json": report_json(report),
        "validate.md": parity_markdown(report),
        "validate.html": parity_page(report, pairs),
    }
    for name, text in documents.items():
        write_file(output / name, text.encode())


def _with_calibration(bundle: Bundle, variant: VariantParity, lists: Mapping[str, str]) -> VariantParity:
    """The result with the list that the variant is judged by and was calibrated on, if it is the same file."""
    calibration = bundle.variants[variant.name].calibration
    return (
        variant if calibration is None else replace(variant, calibrated_on=lists.get(calibration.sha256, ""))
    )


def _settings(
    bundle: Bundle, options: ValidationOptions, items: Sequence[Item], threads: int
) -> ParitySettings:
    own_guidance = bundle.manifest.generation.default_guidance
    rows = [[item.prompt.text, list(item.prompt.labels), item.request.seed] for item in items]
    return ParitySettings(
        prompts=len(items) // options.seeds,
        prompts_digest=hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        suites=tuple(dict.fromkeys(item.prompt.suite for item in items)),
        seeds_per_prompt=options.seeds,
        first_seed=options.first_seed,
        seconds=options.seconds,
        steps=options.steps,
        guidance=own_guidance if options.guidance is None else options.guidance,
        threads=threads,
    )


def _report(
    bundle: Bundle,
    settings: ParitySettings,
    listeners: Listeners,
    gates: str,
    reference: ReferenceParity,
    variants: tuple[VariantParity, ...],
) -> ParityReport:
    device = describe_device()
    return ParityReport(
        schema=SCHEMA,
        bundle=bundle.manifest.name,
        bundle_version=bundle.manifest.version,
        bundle_digest=bundle.digest,
        bundle_commit=bundle.manifest.provenance.commit,
        # What figures may depend on; load and battery are not.
        device={name: device[name] for name in ("model", "soc", "abi_features", "os")},
        tools=_tools(),
        settings=settings,
        tagger_digest=None if listeners.tagger is None else listeners.tagger.digest,
        real_clips=len(listeners.clips),
        real_clips_digest=listeners.clips_digest,
        not_measured=listeners.not_measured,
        gates_name=gates,
        reference=reference,
        variants=variants,
    )


def _tools() -> dict[str, str]:
    """Versions of the packages that are there."""
    found = {}
    for name in TOOLS:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
