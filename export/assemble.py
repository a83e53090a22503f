"""A checkpoint becomes a bundle: export, quantize, measure parity, write golden vectors, card and attributions."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from edge_tta.bundle import Bundle
from edge_tta.bundle.assemble import describe, write_bundle
from edge_tta.bundle.manifest import (
    STAGES,
    Generation,
    Manifest,
    Provenance,
    StageFile,
    TokenizerFile,
    Variant,
)
from edge_tta.config import ModelConfig, config_digest, to_dict
from edge_tta.errors import ConfigError
from edge_tta.model.checkpoint import ModelCheckpoint
from edge_tta.noise import gaussian_noise
from edge_tta.text import Tokenizer
from export.to_onnx import export_onnx, store_in_bf16
from export.wrappers import StageGraph, stage_graphs
from quantization.onnx_int8 import quantize_onnx
from quantization.recipe import QuantizationRecipe

logger = logging.getLogger(__name__)

GOLDEN_PROMPT = "rain on a tin roof"
GOLDEN_FRAMES = 8
"""Latent frames of the golden vectors: enough to cross every receptive field's edge, small enough to ship."""
GOLDEN_GUIDANCE = 3.0
GOLDEN_SEED = 7

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class BundleText:
    """What a bundle says about itself."""

    version: str
    description: str
    licence: str
    training_data: str
    model_card: str
    attributions: str
    """CSV with one row per training clip."""
    commit: str
    checkpoint: str
    generation: Generation


def golden_arrays(config: ModelConfig, stages: Mapping[str, StageGraph], tokenizer: Tokenizer) -> Arrays:
    """Inputs and eager float outputs of every stage for one short request."""
    ids = tokenizer.encode(GOLDEN_PROMPT).ids[None]
    seconds = GOLDEN_FRAMES * config.audio.hop / config.audio.sample_rate
    noise = gaussian_noise(GOLDEN_SEED, (GOLDEN_FRAMES, config.audio.latent_channels))[None]
    one = torch.ones(1)
    with torch.no_grad():
        tokens, pooled = stages["text_encoder"].module(torch.from_numpy(ids))
        velocity = stages["generator"].module(
            torch.from_numpy(noise), one, one, tokens, pooled, one * seconds, one * GOLDEN_GUIDANCE
        )
        latent = torch.from_numpy(noise) - velocity
        waveform = stages["decoder"].module(latent)
    tensors = {
        "tokens": tokens,
        "pooled": pooled,
        "velocity": velocity,
        "latent": latent,
        "waveform": waveform,
    }
    scalars = {
        name: np.array([value], dtype=np.float32)
        for name, value in (("time", 1), ("duration", 1), ("seconds", seconds), ("guidance", GOLDEN_GUIDANCE))
    }
    return {"ids": ids, "noise": noise, **scalars, **{name: value.numpy() for name, value in tensors.items()}}


def signal_to_noise_db(reference: NDArray[Any], other: NDArray[Any]) -> float:
    """Energy of the reference over energy of the difference, dB, at most 200."""
    signal = float(np.square(reference, dtype=np.float64).sum())
    noise = float(np.square(reference.astype(np.float64) - other).sum())
    return float(min(200.0, 10 * np.log10((signal + 1e-30) / (noise + 1e-30))))


def stage_inputs(golden: Arrays) -> dict[str, Arrays]:
    """The golden inputs of each stage; every stage gets the float model's own input."""
    text = {name: golden[name] for name in ("tokens", "pooled")}
    scalars = {name: golden[name] for name in ("time", "duration", "seconds", "guidance")}
    return {
        "text_encoder": {"ids": golden["ids"]},
        "generator": {"latent": golden["noise"], **scalars, **text},
        "decoder": {"latent": golden["latent"]},
    }


def measure_parity(files: Mapping[str, bytes], golden: Arrays) -> dict[str, float]:
    """Signal-to-noise ratio of every stage against the golden outputs, dB, rounded to 0.1."""
    main_output = {"text_encoder": "tokens", "generator": "velocity", "decoder": "waveform"}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    parity = {}
    for stage, inputs in stage_inputs(golden).items():
        session = onnxruntime.InferenceSession(files[stage], options, providers=["CPUExecutionProvider"])
        output = session.run([main_output[stage]], inputs)[0]
        parity[stage] = round(signal_to_noise_db(golden[main_output[stage]], output), 1)
    return parity


def export_bundle(
    checkpoint: ModelCheckpoint,
    target: Path,
    text: BundleText,
    recipe: QuantizationRecipe | None,
    precisions: tuple[str, ...] = ("int8", "fp32"),
    on_progress: Callable[[str], Any] | None = None,
) -> Bundle:
    """Export a complete checkpoint for ONNX Runtime and write the bundle.

    Args:
        checkpoint: all parts and the tokenizer.
        target: bundle directory.
        text: what the bundle says about itself.
        recipe: int8 recipe; needed when ``precisions`` has "int8".
        precisions: variants to include.
        on_progress: told what is being done.

    Raises:
        ConfigError: a part is missing, or the recipe does not fit.
        OutputError: the bundle cannot be written.
    """
    parts = checkpoint.text_encoder, checkpoint.generator, checkpoint.codec
    if parts[0] is None or parts[1] is None or parts[2] is None or checkpoint.tokenizer is None:
        raise ConfigError(
            "the checkpoint is incomplete: text_encoder, generator, codec and tokenizer.model are needed"
        )
    config = checkpoint.config
    report = on_progress or (lambda _: None)
    stages = stage_graphs(config, parts[0], parts[1], parts[2].decoder)
    tokenizer = Tokenizer(checkpoint.tokenizer, config.text_encoder.max_tokens)
    if tokenizer.vocab_size > config.text_encoder.vocab_size:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} pieces, the model {config.text_encoder.vocab_size}"
        )
    golden = golden_arrays(config, stages, tokenizer)
    floats: dict[str, bytes] = {}
    for stage in STAGES:
        report(f"exporting {stage}")
        floats[stage] = export_onnx(stages[stage])
    files: dict[str, bytes] = {}
    variants: dict[str, Variant] = {}
    recipes = {}
    for precision in precisions:
        graphs = floats
        if precision == "int8":
            if recipe is None:
                raise ConfigError("int8 needs a quantization recipe")
            report("quantizing")
            graphs = {stage: quantize_onnx(stage, data, recipe) for stage, data in floats.items()}
            recipes[recipe.name] = config_digest(recipe)
        graphs = {stage: store_in_bf16(data) for stage, data in graphs.items()}
        report(f"measuring parity of {precision}")
        entries = {}
        for stage, data in graphs.items():
            name = f"ort-{precision}/{stage}.onnx"
            files[name] = data
            described = describe(name, data)
            ports = {"inputs": list(stages[stage].input_ports), "outputs": list(stages[stage].output_ports)}
            entries[stage] = StageFile(file=name, sha256=described.sha256, bytes=described.bytes, **ports)
        description = {
            "backend": "ort",
            "precision": precision,
            "stages": entries,
            "parity_snr_db": measure_parity(graphs, golden),
        }
        variants[f"ort-{precision}"] = Variant.model_validate(description)
    files["tokenizer.model"] = checkpoint.tokenizer
    files["golden.npz"] = _npz(golden)
    files["MODEL_CARD.md"] = text.model_card.encode()
    files["ATTRIBUTIONS.csv"] = text.attributions.encode()
    token_file = describe("tokenizer.model", files["tokenizer.model"])
    manifest = Manifest(
        schema_version=1,
        name=config.name,
        version=text.version,
        description=text.description,
        licence=text.licence,
        training_data=text.training_data,
        config=to_dict(config),
        config_digest=config.digest(),
        tokenizer=TokenizerFile(
            file=token_file.file,
            sha256=token_file.sha256,
            bytes=token_file.bytes,
            max_tokens=config.text_encoder.max_tokens,
        ),
        variants=variants,
        generation=text.generation,
        golden=describe("golden.npz", files["golden.npz"]),
        model_card=describe("MODEL_CARD.md", files["MODEL_CARD.md"]),
        attributions=describe("ATTRIBUTIONS.csv", files["ATTRIBUTIONS.csv"]),
        provenance=Provenance(
            commit=text.commit,
            checkpoint=text.checkpoint,
            recipes=recipes,
            tools={name: version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime")},
        ),
    )
    report("writing")
    return write_bundle(target, manifest, files)


def _npz(arrays: Arrays) -> bytes:
    """A NumPy archive whose bytes depend on its arrays alone (numpy stamps entries with a constant date)."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})
    return buffer.getvalue()
