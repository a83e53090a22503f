"""Which layers suffer from fewer bits: one is quantized at a time, and what that does to the stage and to the sound.

What counts is what the gates of ``edge-tta validate`` judge. The proposal is greedy: starting with all quantized, the
layers that use most of a missed gate for the bytes they save stay float until all gates are kept; those that turn out
not to be needed are quantized again, the largest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

from edge_tta.bundle.manifest import STAGES
from edge_tta.errors import ConfigError
from edge_tta.evaluate.gates import Gate, GateOutcome
from edge_tta.model.scheme import Scheme
from quantization.calibration import CalibrationSound, require_disjoint, stage_inputs
from quantization.closeness import END_TO_END, STAGE_SNR, GateJudge, measured_at
from quantization.onnx_layers import is_helper, layers_of, weights_of
from quantization.onnx_rewrite import Ranges, rewrite
from quantization.onnx_stage import plan, quantize_onnx, static_ranges
from quantization.recipe import QuantizationRecipe

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
    """Of the stage's output: token features, latent, STFT magnitudes. Mean over sounds."""
    log_mel_distance: float
    """Of the finished sound to the float model's, as in ``edge-tta validate``; mean over sounds."""
    shares: tuple[float, ...]
    """How much of each gate it uses up; see ``quantization.closeness.share_used``."""
    kept_because: str
    """Reason for which the recipe leaves it float; empty where it does not."""


@dataclass(frozen=True)
class StageSensitivity:
    """A stage and its layers in the order in which they run."""

    stage: str
    scheme: str
    layers: tuple[LayerSensitivity, ...]


@dataclass(frozen=True)
class Choice:
    """A set of layers that stay float, with all other candidates quantized."""

    kept_float: tuple[str, ...]
    saved_bytes: int
    gates: tuple[GateOutcome, ...]
    """Measured on the whole model."""


@dataclass(frozen=True)
class Sensitivity:
    """Stages, and three choices among their layers. Stages that were not asked for are as the recipe makes them."""

    sounds: int
    """Sounds that layers and choices were measured on."""
    gates: tuple[Gate, ...]
    allowance: float
    """How much of every gate the proposal may use up."""
    stages: tuple[StageSensitivity, ...]
    everything: Choice
    """All candidates quantized."""
    recipe: Choice
    """What the recipe keeps float."""
    proposal: Choice
    """The least bytes found that keep the gates."""
    predicted: tuple[float, ...]
    """What each gate would measure of the proposal if differences of single layers added up."""


def sweep(
    stages: Sequence[str],
    graphs: Mapping[str, bytes],
    recipe: QuantizationRecipe,
    judge: GateJudge,
    calibration: Sequence[CalibrationSound],
    allowance: float,
    on_progress: Progress | None = None,
) -> Sensitivity:
    """Measure every layer of some stages and propose which stay float.

    Args:
        stages: of "text_encoder", "generator" and "decoder".
        graphs: float ONNX files of all stages.
        recipe: gives the scheme, the smallest size, and exceptions with another scheme; which layers it keeps float is
            reported, and no layer is left out for it.
        judge: the sounds that are measured, and the gates.
        calibration: other sounds, for static ranges; may be empty where the recipe has none.
        allowance: how much of every gate the proposal may use up, above 0, at most 1.
        on_progress: told (what, done, total).

    Raises:
        ConfigError: the recipe leaves a stage in float or does not fit it.
        DataError: a prompt or seed is calibrated on and measured.
    """
    require_disjoint([sound.request for sound in calibration], [sound.request for sound in judge.sounds])
    report = on_progress or (lambda *_: None)
    rest = {
        name: quantize_onnx(name, graphs[name], recipe, stage_inputs(calibration, name))
        for name in STAGES
        if name not in stages and not recipe.stage(name).is_float
    }
    studies = [_Study(name, graphs[name], recipe, judge, calibration) for name in stages]
    total = sum(len(study.schemes) for study in studies)
    found: list[StageSensitivity] = []
    for study in studies:
        layers: list[LayerSensitivity] = []
        for name in study.schemes:
            layers.append(study.layer(name))
            report(f"{study.stage}: {name}", sum(len(item.layers) for item in found) + len(layers), total)
        found.append(StageSensitivity(study.stage, str(recipe.stage(study.stage).scheme), tuple(layers)))
    every = [layer for stage in found for layer in stage.layers]

    def outcomes(kept: frozenset[str]) -> tuple[GateOutcome, ...]:
        made = {
            study.stage: study.quantized(name for name in study.schemes if name not in kept)
            for study in studies
        }
        return judge.outcomes(
            judge.measure(rest | {name: graph for name, graph in made.items() if graph is not None})
        )

    def choice(kept: Iterable[str]) -> Choice:
        floats = frozenset(kept)
        saved = sum(layer.saved_bytes for layer in every if layer.name not in floats)
        names = tuple(layer.name for layer in every if layer.name in floats)
        return Choice(names, saved, outcomes(floats))

    def loads(kept: frozenset[str]) -> tuple[float, ...]:
        report(f"proposing: {len(kept)} layers float", 0, 1)
        return tuple(share**2 for share in judge.shares(outcomes(kept)))

    proposal = choice(propose(every, loads, allowance))
    background = judge.shares(judge.outcomes(judge.measure(rest)))
    quantized = [layer.shares for layer in every if layer.name not in proposal.kept_float]
    together = np.sqrt(np.square([background, *quantized]).sum(axis=0))
    predicted = tuple(
        measured_at(gate, float(share)) for gate, share in zip(judge.gates, together, strict=True)
    )
    everything, kept = choice(()), choice(layer.name for layer in every if layer.kept_because)
    report("proposing", 1, 1)
    return Sensitivity(
        len(judge.sounds), judge.gates, allowance, tuple(found), everything, kept, proposal, predicted
    )


def propose(
    layers: Sequence[LayerSensitivity],
    loads_of: Callable[[frozenset[str]], Sequence[float]],
    allowance: float,
) -> tuple[str, ...]:
    """Layers to keep float so that all gates are kept, in the order of ``layers``.

    Args:
        layers: candidates, with what each does alone.
        loads_of: squared shares of the gates with some layers float and the others quantized, measured.
        allowance: how much of every gate may be used up.

    Returns:
        The layers; where no choice keeps every gate, all that use up anything of one that is missed.
    """
    allowed = allowance**2
    loads = {layer.name: np.square(layer.shares) for layer in layers}
    saved = {layer.name: max(1, layer.saved_bytes) for layer in layers}
    kept: set[str] = set()
    measured = np.array(loads_of(frozenset()))
    while (measured > allowed).any():
        added = False
        # Squares of different layers add up, nearly: as many at once as that promises to need, at least one.
        while (missed := measured > allowed).any():
            weights = {
                name: float(loads[name][missed].max()) / saved[name] for name in loads if name not in kept
            }
            name = max(weights, key=lambda name: weights[name], default="")
            if not name or weights[name] == 0:
                break
            kept.add(name)
            measured, added = measured - loads[name], True
        if not added:
            break
        measured = np.array(loads_of(frozenset(kept)))
    for name in sorted(kept, key=lambda name: saved[name], reverse=True):
        if (np.array(loads_of(frozenset(kept - {name}))) <= allowed).all():
            kept.remove(name)
    return tuple(layer.name for layer in layers if layer.name in kept)


class _Study:
    """One stage with what its layers are measured by."""

    def __init__(
        self,
        stage: str,
        graph: bytes,
        recipe: QuantizationRecipe,
        judge: GateJudge,
        calibration: Sequence[CalibrationSound],
    ) -> None:
        self.stage, self.graph, self.judge = stage, graph, judge
        proto = onnx.load_from_string(graph)
        self.recipe, self.tensors = recipe.stage(stage), weights_of(proto.graph)
        self.elements = {layer.name: layer.elements for layer in layers_of(proto.graph)}
        self.schemes = candidates(stage, proto.graph, recipe)
        self._last: tuple[tuple[str, ...], bytes] = ((), graph)
        self.ranges: Ranges = static_ranges(graph, self.schemes, stage_inputs(calibration, stage))

    def quantized(self, names: Iterable[str]) -> bytes | None:
        """The stage with some layers in integers; None without any."""
        schemes = {name: self.schemes[name] for name in names}
        if not schemes:
            return None
        # A search changes one stage after the other, and the other stages stay as they are meanwhile.
        if tuple(schemes) != self._last[0]:
            proto = onnx.load_from_string(self.graph)
            rewrite(proto, schemes, self.ranges)
            self._last = tuple(schemes), bytes(proto.SerializeToString())
        return self._last[1]

    def layer(self, name: str) -> LayerSensitivity:
        """One layer alone."""
        graph, rule = self.quantized([name]), self.recipe.rule_of(name)
        assert graph is not None
        figures = self.judge.measure({self.stage: graph})
        shares = self.judge.shares(self.judge.outcomes(figures))
        return LayerSensitivity(
            name,
            str(self.schemes[name]),
            self.elements[name],
            self._saved(name),
            round(float(np.mean([one[STAGE_SNR[self.stage]] for one in figures])), 2),
            round(float(np.mean([one[END_TO_END] for one in figures])), 5),
            tuple(round(share, 5) for share in shares),
            rule.reason if rule is not None and rule.scheme.is_float else "",
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
