"""A proposal of a sensitivity sweep as a quantization recipe: the file, and what the whole of it measures."""

from __future__ import annotations

import glob
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import onnx

from edge_tta.bundle.manifest import STAGES
from edge_tta.config import from_dict
from edge_tta.evaluate.gates import GateOutcome
from edge_tta.evaluate.parity_text import figure_number, limit_text, measured_text
from edge_tta.model.scheme import LayerRule, Scheme, StageScheme
from quantization.calibration import CalibrationRequest, CalibrationSound, require_disjoint, stage_inputs
from quantization.closeness import GateJudge
from quantization.onnx_layers import layers_of
from quantization.onnx_stage import quantize_onnx
from quantization.recipe import QuantizationRecipe
from quantization.sensitivity import Sensitivity, StageSensitivity, candidates


@dataclass(frozen=True)
class Verification:
    """The whole proposed recipe, made as by ``edge-tta export`` and measured once, on sounds that chose nothing."""

    calibration: tuple[CalibrationRequest, ...]
    """What its static ranges are of; empty where it has none."""
    judged: tuple[CalibrationRequest, ...]
    """What it was measured on."""
    file_bytes: int
    """Its graphs as they are stored."""
    float_bytes: int
    """The float graphs as they are stored."""
    gates: tuple[GateOutcome, ...]


def proposed_recipe(
    base: QuantizationRecipe, graphs: Mapping[str, bytes], found: Sensitivity
) -> QuantizationRecipe:
    """The recipe of a proposal: every exception by the full name of its layer, with the reason.

    Args:
        base: what was measured; stages that were not are taken over.
        graphs: float ONNX files by stage.
        found: the sweep.
    """
    stages = {stage.stage: _stage_scheme(base, graphs[stage.stage], stage, found) for stage in found.stages}
    return QuantizationRecipe(
        f"{base.name.removesuffix('-proposed')}-proposed",
        base.target,
        f"{base.name.removesuffix('-proposed')} with the exceptions that a sensitivity sweep found",
        **{name: stages.get(name, base.stage(name)) for name in STAGES},
    )


def _stage_scheme(
    base: QuantizationRecipe, graph: bytes, measured: StageSensitivity, found: Sensitivity
) -> StageScheme:
    settings, model = base.stage(measured.stage), onnx.load_from_string(graph).graph
    schemes = candidates(measured.stage, model, base)
    chosen = {name: scheme for name, scheme in schemes.items() if name not in found.proposal.kept_float}
    if not chosen:
        return StageScheme()
    shares = {layer.name: layer.shares for layer in measured.layers}
    rules = []
    for layer in layers_of(model):
        scheme = chosen.get(layer.name, Scheme())
        large = layer.elements >= settings.min_elements
        usual = settings.scheme if layer.kind == "product" and large else Scheme()
        # A convolution that stays float among integers needs a rule that says so.
        if scheme == usual and not (layer.kind == "convolution" and large and not layer.grouped):
            continue
        if layer.name in found.proposal.kept_float:
            share, gate = max(zip(shares[layer.name], found.gates, strict=True), key=lambda pair: pair[0])
            reason = f"alone {100 * share:.0f} % of what the gate '{gate.title}' allows"
        else:
            rule = settings.rule_of(layer.name)
            assert rule is not None
            reason = rule.reason
        rules.append(LayerRule(glob.escape(layer.name), reason, scheme))
    return StageScheme(settings.scheme, settings.min_elements, tuple(rules))


def verify(
    text: str,
    graphs: Mapping[str, bytes],
    judge: GateJudge,
    calibration: Sequence[CalibrationSound],
    store: Callable[[bytes], bytes],
) -> Verification:
    """Make and measure what a recipe's file says.

    Args:
        text: the file.
        graphs: float ONNX files by stage.
        judge: sounds that nothing was chosen by.
        calibration: for static ranges; may be empty where the recipe has none.
        store: the form of a graph in a bundle, for its size.

    Raises:
        DataError: a prompt or seed is calibrated on and judged on.
        ConfigError: the file is no recipe for these graphs.
    """
    requests = tuple(sound.request for sound in calibration)
    judged = tuple(sound.request for sound in judge.sounds)
    require_disjoint(requests, judged)
    recipe = from_dict(QuantizationRecipe, tomllib.loads(text), "proposal")
    made = {
        stage: quantize_onnx(stage, graph, recipe, stage_inputs(calibration, stage))
        for stage, graph in graphs.items()
    }
    changed = {stage: made[stage] for stage in made if not recipe.stage(stage).is_float}
    stored, floats = (sum(len(store(graph)) for graph in files.values()) for files in (made, graphs))
    return Verification(requests, judged, stored, floats, judge.outcomes(judge.measure(changed)))


def recipe_text(recipe: QuantizationRecipe, comments: Sequence[str] = ()) -> str:
    """A recipe as the TOML file that ``quantization.recipe.load_recipe`` reads, below lines of comment."""
    lines = [*(f"# {line}".rstrip() for line in comments), *([""] if comments else [])]
    lines += [f"{key} = {_quoted(getattr(recipe, key))}" for key in ("name", "target", "description")]
    for name in STAGES:
        stage = recipe.stage(name)
        if stage.is_float:
            continue
        lines += [
            "",
            f"[{name}]",
            f"scheme = {_scheme_text(stage.scheme)}",
            f"min_elements = {stage.min_elements}",
        ]
        for rule in stage.layers:
            lines += ["", f"[[{name}.layers]]", f"pattern = {_quoted(rule.pattern)}"]
            lines += [] if rule.scheme.is_float else [f"scheme = {_scheme_text(rule.scheme)}"]
            lines += [f"reason = {_quoted(rule.reason)}"]
    return "\n".join(lines) + "\n"


def proposal_comments(
    model: str, command: str, found: Sensitivity, verification: Verification | None
) -> list[str]:
    """What the head of a proposed recipe says: where it comes from, and what it costs."""
    lines = [
        f"Proposed for {model} by",
        f"  {command}",
        f"Layers stay float until every gate has at most {100 * found.allowance:.0f} % used up, as amplitude.",
        (
            f"{len(found.proposal.kept_float)} layers are float that could be quantized, which leaves about "
            f"{found.proposal.saved_bytes / 1e6:.2f} of {found.everything.saved_bytes / 1e6:.2f} MB saved."
        ),
    ]
    if verification is not None:
        lines.append(
            f"Stored: {verification.file_bytes / 1e6:.2f} MB, float {verification.float_bytes / 1e6:.2f} MB."
        )
    for place, (gate, predicted) in enumerate(zip(found.proposal.gates, found.predicted, strict=True)):
        line = (
            f"{gate.title} ({limit_text(gate)}): predicted {figure_number(gate.figure, predicted)}, measured "
            f"{measured_text(gate)}"
        )
        if verification is not None:
            other = verification.gates[place]
            line += f", verified {measured_text(other)}{'' if other.passed else ', MISSED'}"
        lines.append(line)
    if verification is not None:
        lines.append(
            f"Measured: on the {found.sounds} sounds that it was chosen by. Verified: all of it, on "
            f"{len(verification.judged)} others."
        )
    return lines


def _scheme_text(scheme: Scheme) -> str:
    given = {
        field.name: value
        for field in fields(scheme)
        if (value := getattr(scheme, field.name)) != field.default
    }
    # Numbers and truth values are written alike in JSON and TOML.
    written = (
        f"{key} = {_quoted(value) if isinstance(value, str) else json.dumps(value)}"
        for key, value in given.items()
    )
    return f"{{ {', '.join(written)} }}"


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are among its own, and the delete character needs one as well."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
