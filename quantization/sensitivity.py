"""Which layers suffer from fewer bits: one is quantized at a time, and what that does to the stage and to the sound.

The proposal is greedy: starting with everything quantized, the layers whose noise weighs most for the bytes they save
stay float until a target is met; those that turn out not to be needed are quantized again, the largest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
from numpy.typing import NDArray

from edge_tta.errors import ConfigError
from edge_tta.evaluate.spectral import log_mel_distance
from edge_tta.model.scheme import Scheme
from quantization.calibration import CalibrationSound, GraphModel, open_session, run_stage, stage_inputs
from quantization.onnx_layers import is_helper, layers_of, weights_of
from quantization.onnx_rewrite import Ranges, rewrite
from quantization.onnx_stage import plan, static_ranges
from quantization.recipe import QuantizationRecipe
from quantization.signal_to_noise import compared, decibels, noise_share

Progress = Callable[[str, int, int], Any]


@dataclass(frozen=True)
class LayerSensitivity:
    """One layer quantized, everything else float."""

    name: str
    """Of its weight."""
    scheme: str
    elements: int
    """Number of weights."""
    saved_bytes: int
    """What its integers save in the file, about; float weights that bfloat16 holds exactly count two bytes."""
    snr_db: float
    """Of the stage's output on its float inputs; see ``StageSensitivity``."""
    log_mel_distance: float
    """Of the whole model's sound to the float model's: mean difference of log10 mel magnitudes, 0.05 is 1 dB."""
    kept_because: str
    """Reason for which the recipe leaves it float; empty where it does not."""


@dataclass(frozen=True)
class Choice:
    """A set of layers that stay float, with the rest of the candidates quantized."""

    kept_float: tuple[str, ...]
    saved_bytes: int
    snr_db: float
    log_mel_distance: float


@dataclass(frozen=True)
class StageSensitivity:
    """A stage: its layers in the order in which they run, and three choices among them.

    The signal-to-noise ratio is that of token features, of velocities and, as a decoder makes phases up, of STFT
    magnitudes; noise over signal is averaged over inputs, so loud and long ones count like the others.
    """

    stage: str
    scheme: str
    target_snr_db: float
    """What the proposal had to reach."""
    layers: tuple[LayerSensitivity, ...]
    everything: Choice
    """All candidates quantized."""
    recipe: Choice
    """What the recipe keeps float."""
    proposal: Choice
    """The least bytes found that meet the target."""


def sweep(
    stage: str,
    graph: bytes,
    recipe: QuantizationRecipe,
    model: GraphModel,
    sounds: Sequence[CalibrationSound],
    target_snr_db: float,
    on_progress: Progress | None = None,
) -> StageSensitivity:
    """Measure a stage.

    Args:
        stage: "text_encoder", "generator" or "decoder".
        graph: its float ONNX file.
        recipe: gives the scheme, the smallest size, and exceptions with another scheme; which layers it keeps float is
            reported, and no layer is left out for it.
        model: the float model that made ``sounds``.
        sounds: calibration.
        target_snr_db: what the proposal has to reach.
        on_progress: told (what, done, total).

    Raises:
        ConfigError: the recipe leaves the stage in float or does not fit it.
    """
    study = _Study(stage, graph, recipe, model, sounds)
    report = on_progress or (lambda *_: None)
    layers, total = [], len(study.schemes)
    for number, name in enumerate(study.schemes):
        layers.append(study.layer(name))
        report(f"{stage}: {name}", number + 1, total)
    report(f"{stage}: proposing", 0, 1)
    kept = tuple(layer.name for layer in layers if layer.kept_because)
    found = StageSensitivity(
        stage,
        str(recipe.stage(stage).scheme),
        target_snr_db,
        tuple(layers),
        study.choice(()),
        study.choice(kept),
        study.choice(propose(layers, study.noise, target_snr_db)),
    )
    report(f"{stage}: proposing", 1, 1)
    return found


def propose(
    layers: Sequence[LayerSensitivity],
    noise_of: Callable[[frozenset[str]], float],
    target_snr_db: float,
) -> tuple[str, ...]:
    """Layers to keep float so that the target is met, in the order of ``layers``.

    Args:
        layers: candidates, with what each does alone.
        noise_of: noise over signal with some layers float and the others quantized, measured.
        target_snr_db: to be reached.
    """
    allowed = 10 ** (-target_snr_db / 10)
    share = {layer.name: 10 ** (-layer.snr_db / 10) for layer in layers}
    saved = {layer.name: layer.saved_bytes for layer in layers}
    queue = sorted(share, key=lambda name: share[name] / max(1, saved[name]), reverse=True)
    kept: set[str] = set()
    measured = noise_of(frozenset())
    while measured > allowed and queue:
        # Noise of different layers adds up, nearly: as many at once as that promises to need, at least one.
        while queue and measured > allowed:
            name = queue.pop(0)
            kept.add(name)
            measured -= share[name]
        measured = noise_of(frozenset(kept))
    for name in sorted(kept, key=lambda name: saved[name], reverse=True):
        if noise_of(frozenset(kept - {name})) <= allowed:
            kept.remove(name)
    return tuple(layer.name for layer in layers if layer.name in kept)


class _Study:
    """One stage with what is measured against."""

    def __init__(
        self,
        stage: str,
        graph: bytes,
        recipe: QuantizationRecipe,
        model: GraphModel,
        sounds: Sequence[CalibrationSound],
    ) -> None:
        self.stage, self.graph, self.model, self.sounds = stage, graph, model, sounds
        proto = onnx.load_from_string(graph)
        self.recipe, self.tensors = recipe.stage(stage), weights_of(proto.graph)
        self.elements = {layer.name: layer.elements for layer in layers_of(proto.graph)}
        self.schemes = candidates(stage, proto.graph, recipe)
        self.inputs = stage_inputs(sounds, stage)
        self.ranges: Ranges = static_ranges(graph, self.schemes, self.inputs)
        self.expected = [compared(stage, output) for output in self._outputs(model.sessions[stage])]

    def _outputs(self, session: Any) -> Iterable[NDArray[np.float32]]:
        return (run_stage(session, given)[0] for given in self.inputs)

    def quantized(self, names: Iterable[str]) -> bytes:
        """The stage with some layers in integers."""
        proto = onnx.load_from_string(self.graph)
        rewrite(proto, {name: self.schemes[name] for name in names}, self.ranges)
        return bytes(proto.SerializeToString())

    def noise(self, kept: frozenset[str] | tuple[str, ...]) -> float:
        """Noise over signal with some layers float, averaged over inputs."""
        return self._noise(self.quantized(name for name in self.schemes if name not in kept))

    def _noise(self, graph: bytes) -> float:
        outputs = self._outputs(open_session(graph, self.model.threads))
        pairs = zip(self.expected, outputs, strict=True)
        return float(
            np.mean([noise_share(expected, compared(self.stage, output)) for expected, output in pairs])
        )

    def _distance(self, graph: bytes) -> float:
        model = self.model.with_stage(self.stage, graph)
        rate = model.audio.sample_rate
        distances = []
        for sound in self.sounds:
            if self.stage == "decoder":
                waveform = run_stage(model.sessions["decoder"], sound.inputs["decoder"][0])[0]
            else:
                waveform = model.make(sound.request).waveform
            distances.append(log_mel_distance(sound.waveform[0], waveform[0], rate))
        return round(float(np.mean(distances)), 5)

    def layer(self, name: str) -> LayerSensitivity:
        """One layer alone."""
        graph, rule = self.quantized([name]), self.recipe.rule_of(name)
        return LayerSensitivity(
            name,
            str(self.schemes[name]),
            self.elements[name],
            self._saved(name),
            decibels(self._noise(graph)),
            self._distance(graph),
            rule.reason if rule is not None and rule.scheme.is_float else "",
        )

    def choice(self, kept: tuple[str, ...]) -> Choice:
        """All candidates quantized but for some."""
        names = [name for name in self.schemes if name not in kept]
        graph = self.quantized(names)
        return Choice(
            kept,
            sum(self._saved(name) for name in names),
            decibels(self._noise(graph)),
            self._distance(graph),
        )

    def _saved(self, name: str) -> int:
        bits = onnx.numpy_helper.to_array(self.tensors[name]).view(np.uint32)
        exact = not (bits & 0xFFFF).any()
        shape, scheme = self.tensors[name].dims, self.schemes[name]
        # Scales: bfloat16 for each block, float32 for each output.
        scales = 2 / scheme.block_size if scheme.block_size else 4 * max(shape) / bits.size
        kept = (0.5 if scheme.weights == "int4" else 1.0) + scales
        return round(bits.size * ((2 if exact else 4) - kept))


def candidates(stage: str, graph: onnx.GraphProto, recipe: QuantizationRecipe) -> Mapping[str, Scheme]:
    """Layers that a scheme of the recipe could quantize, whatever it keeps float: schemes by name.

    Raises:
        ConfigError: the recipe leaves the stage in float or does not fit it.
    """
    settings = recipe.stage(stage)
    chosen = plan(stage, graph, recipe)
    if not chosen:
        raise ConfigError(f"recipe {recipe.name} leaves {stage} in float; there is nothing to measure")
    weights, found = weights_of(graph), {}
    biased = {node.input[1] for node in graph.node if node.op_type == "Gemm" and len(node.input) > 2}
    for layer in layers_of(graph):
        if layer.name in chosen:
            found[layer.name] = chosen[layer.name]
        elif (
            layer.kind == "product"
            and layer.elements >= settings.min_elements
            and not settings.scheme.is_float
            and not is_helper(weights[layer.name])
            and not (settings.scheme.activations == "static" and layer.name in biased)
        ):
            found[layer.name] = settings.scheme
    return found
