"""What every stage is asked on every machine: inputs of many requests, and what the float model answers to them.

One request does not do. The text encoder's signal-to-noise ratio has a standard deviation of 2.4 dB from one prompt to
the next, and two int8 kernels that are equally good over a hundred prompts are a decibel apart on one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tta.bundle import Bundle
from edge_tta.bundle.entries import STAGES
from edge_tta.errors import RequestError
from edge_tta.noise import gaussian_noise
from edge_tta.runtime.backend import load_variant
from edge_tta.runtime.golden import signal_to_noise_db

Arrays = dict[str, NDArray[Any]]

NUM_PROMPTS, NUM_SOUNDS, SECONDS = 32, 8, 1.0
"""Prompts for the text encoder; sounds, of so many seconds, for generator and decoder."""


@dataclass(frozen=True)
class Case:
    """One request to one stage.

    Attributes:
        inputs: by name, as in the bundle's manifest.
        expected: the stage's first output in the float model.
    """

    inputs: Arrays
    expected: NDArray[Any]


Cases = Mapping[str, Sequence[Case]]
"""By stage."""


def float_bundle(bundle: Bundle, others: Sequence[Bundle]) -> Bundle:
    """The bundle that has the float model of ``bundle`` for ONNX Runtime: itself or another of the same model.

    Raises:
        RequestError: none has.
    """
    for other in (bundle, *others):
        mine, its = bundle.manifest, other.manifest
        same = (mine.name, mine.version, mine.config_digest) == (its.name, its.version, its.config_digest)
        if same and "ort-fp32" in other.variants:
            return other
    raise RequestError(
        f"{bundle.name} has no variant ort-fp32 to be compared with: add a --bundle of the same model that has one"
    )


def make_cases(bundle: Bundle, prompts: Sequence[str]) -> dict[str, list[Case]]:
    """Run the float model of a bundle here.

    Args:
        bundle: has the variant ort-fp32.
        prompts: all go to the text encoder; the first ``NUM_SOUNDS``, their number the seed, to the other stages.

    Raises:
        BundleError, BackendError: the variant cannot be opened.
    """
    loaded = load_variant(bundle, "ort-fp32", 1)
    backend, audio, scale = loaded.backend, bundle.config.audio, bundle.manifest.generation.default_guidance
    cases: dict[str, list[Case]] = {stage: [] for stage in STAGES}
    try:
        for seed, prompt in enumerate(prompts):
            ids = loaded.tokenizer.encode(prompt).ids[None]
            text = tokens, pooled = backend.text_encoder(ids)
            cases["text_encoder"].append(Case({"ids": ids}, tokens))
            if seed >= NUM_SOUNDS:
                continue
            noise = gaussian_noise(seed, (audio.latent_frames(SECONDS), audio.latent_channels))[None]
            velocity = backend.generator(noise, 1.0, 1.0, text, SECONDS, scale)
            scalars = {"time": 1.0, "duration": 1.0, "seconds": SECONDS, "guidance": scale}
            given = {name: np.array([value], dtype=np.float32) for name, value in scalars.items()}
            cases["generator"].append(
                Case({"latent": noise, **given, "tokens": tokens, "pooled": pooled}, velocity)
            )
            latent = noise - velocity
            cases["decoder"].append(Case({"latent": latent}, backend.decoder(latent)))
    finally:
        backend.close()
    return cases


def write_cases(cases: Cases, path: Path) -> None:
    """As one NumPy archive, complete or not at all."""
    arrays: Arrays = {}
    for stage, requests in cases.items():
        for number, case in enumerate(requests):
            arrays |= {f"{stage}/{number}/inputs/{name}": value for name, value in case.inputs.items()}
            arrays[f"{stage}/{number}/expected"] = case.expected
    part = path.with_name(f".{path.name}")
    with open(part, "wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    os.replace(part, path)


def read_cases(path: Path) -> dict[str, list[Case]]:
    """What ``write_cases`` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    cases: dict[str, list[Case]] = {}
    for stage in STAGES:
        count = sum(name.startswith(f"{stage}/") and name.endswith("/expected") for name in arrays)
        cases[stage] = []
        for number in range(count):
            prefix = f"{stage}/{number}/inputs/"
            inputs = {
                name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)
            }
            cases[stage].append(Case(inputs, arrays[f"{stage}/{number}/expected"]))
    return cases


def judge_stages(cases: Cases, answer: Callable[[str, int, Case], NDArray[Any]]) -> list[dict[str, Any]]:
    """Every stage's distance to the float model over all its requests.

    Args:
        cases: requests by stage.
        answer: the first output of (stage, number, case) on the machine and variant under test.

    Returns:
        Per stage: stage, requests, snr_db of all outputs taken together, max_abs_error.

    Raises:
        ValueError: an output has another shape than the float model's.
    """
    found = []
    for stage, requests in cases.items():
        actual = [answer(stage, number, case) for number, case in enumerate(requests)]
        for case, output in zip(requests, actual, strict=True):
            if output.shape != case.expected.shape:
                raise ValueError(f"{stage} made {output.shape}, not {case.expected.shape}")
        expected = np.concatenate([case.expected.ravel() for case in requests])
        joined = np.concatenate([output.ravel() for output in actual])
        found.append(
            {
                "stage": stage,
                "requests": len(requests),
                "snr_db": signal_to_noise_db(expected, joined),
                "max_abs_error": float(np.abs(expected - joined).max()),
            }
        )
    return found
