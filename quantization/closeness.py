"""How far quantized graphs are from the float model: the figures of ``edge-tta validate``, and its gates.

A stage is measured on what the float model gave it, the sound from the prompt with everything quantized that is. What
needs ears (Fréchet distance, adherence) is left to ``edge-tta validate`` itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_tta.config import AudioSpec
from edge_tta.errors import ConfigError
from edge_tta.evaluate.figures import FIGURES
from edge_tta.evaluate.gates import Gate, GateOutcome, judge
from edge_tta.evaluate.parity import mel_distance
from edge_tta.evaluate.statistics import Spread, spread
from edge_tta.runtime.finish import finish_waveform
from edge_tta.runtime.golden import MAX_DB, signal_to_noise_db
from quantization.calibration import (
    CalibrationRequest,
    CalibrationSound,
    GraphModel,
    Session,
    open_session,
)
from quantization.signal_to_noise import compared

END_TO_END = "end_to_end.log_mel_distance"
MAGNITUDES = "decoder.magnitudes_snr_db"
"""Of STFT magnitudes; no gate judges it. A decoder makes phases up, so its waveform's ratio says nothing."""
STAGE_SNR = {
    "text_encoder": "text_encoder.tokens_snr_db",
    "generator": "generator.latent_snr_db",
    "decoder": MAGNITUDES,
}
"""The signal-to-noise ratio of each stage's output."""
IDENTICAL = {
    "text_encoder.tokens_snr_db": MAX_DB,
    "text_encoder.pooled_snr_db": MAX_DB,
    "generator.latent_snr_db": MAX_DB,
    MAGNITUDES: MAX_DB,
    "decoder.log_mel_distance": 0.0,
    END_TO_END: 0.0,
}
"""Every figure that is measured here, with its value where nothing differs."""

Figures = dict[str, float]


def judged_gates(gates: Sequence[Gate], precision: str, source: str) -> tuple[Gate, ...]:
    """The gates of a precision whose figures are measured here.

    Args:
        gates: of a file.
        precision: "int8" or "int4".
        source: name of the file, for messages.

    Raises:
        ConfigError: there is none, or one has no limit that differences could use up.
    """
    chosen = tuple(
        gate
        for gate in gates
        if gate.figure in IDENTICAL and (not gate.precisions or precision in gate.precisions)
    )
    if not chosen:
        known = ", ".join(key for key in IDENTICAL if key in FIGURES)
        raise ConfigError(
            f"{source}: no gate judges {precision} by a figure that layers have; those are {known}"
        )
    for gate in chosen:
        limit = gate.at_least if FIGURES[gate.figure].better == "higher" else gate.at_most
        if limit is None or (gate.at_most is not None and limit <= 0):
            wanted = "at_least" if FIGURES[gate.figure].better == "higher" else "at_most, above 0,"
            raise ConfigError(f"{source}: gate '{gate.title}': {wanted} is needed for {gate.figure}")
    return chosen


def share_used(gate: Gate, measured: float) -> float:
    """Amplitude of a difference over the amplitude that a gate allows: 1 at the limit, 0 for no difference.

    Squares of shares of independent differences add up, nearly: noise of ratios in dB does by its energy, and log-mel
    distances by their squares while the noise is small beside the sound.
    """
    if gate.at_most is not None:
        return measured / gate.at_most
    assert gate.at_least is not None
    return 0.0 if measured >= MAX_DB else float(10 ** ((gate.at_least - measured) / 20))


def measured_at(gate: Gate, share: float) -> float:
    """The figure whose share is given: the inverse of ``share_used``."""
    if gate.at_most is not None:
        return gate.at_most * share
    assert gate.at_least is not None
    return MAX_DB if share <= 0 else min(MAX_DB, gate.at_least - 20 * math.log10(share))


def end_to_end_distance(reference: CalibrationSound, made: CalibrationSound, audio: AudioSpec) -> float:
    """Log-mel distance of the finished sounds, as in ``edge-tta validate``."""
    return mel_distance(_finished(reference, audio), _finished(made, audio), audio.sample_rate)


class GateJudge:
    """Sounds of the float model, and what gates say of quantized graphs that make the same ones.

    Args:
        model: the float model.
        requests: the sounds.
        gates: those of ``judged_gates``.
        precision: whose gates they are.
    """

    def __init__(
        self, model: GraphModel, requests: Sequence[CalibrationRequest], gates: Sequence[Gate], precision: str
    ) -> None:
        self.model, self.gates, self.precision = model, tuple(gates), precision
        self.sounds = tuple(model.make(request) for request in requests)
        self._stages: dict[tuple[str, str], list[Figures]] = {}
        self._sessions: dict[str, tuple[str, Session]] = {}

    def measure(self, graphs: Mapping[str, bytes]) -> list[Figures]:
        """Every figure of ``IDENTICAL`` for each sound.

        Args:
            graphs: quantized graphs by stage; the other stages are those of the float model.
        """
        digests = {stage: hashlib.sha256(graph).hexdigest() for stage, graph in graphs.items()}
        for stage, graph in graphs.items():
            if self._sessions.get(stage, ("",))[0] != digests[stage]:
                self._sessions[stage] = digests[stage], open_session(graph, self.model.threads)
        sessions = {stage: self._sessions[stage][1] for stage in graphs}
        whole = self.model.with_sessions(sessions)
        found = []
        made = [whole.make(sound.request) if graphs else sound for sound in self.sounds]
        for stage in graphs:
            if (stage, digests[stage]) not in self._stages:
                alone = self.model.with_sessions({stage: sessions[stage]})
                # With one stage quantized, the whole is that stage alone.
                answers = made if len(graphs) == 1 else [alone.make(sound.request) for sound in self.sounds]
                self._stages[stage, digests[stage]] = [
                    self._stage_figures(stage, sound, answer)
                    for sound, answer in zip(self.sounds, answers, strict=True)
                ]
        for number, (sound, answer) in enumerate(zip(self.sounds, made, strict=True)):
            figures = {**IDENTICAL, END_TO_END: end_to_end_distance(sound, answer, self.model.audio)}
            for stage in graphs:
                figures.update(self._stages[stage, digests[stage]][number])
            found.append(figures)
        return found

    def outcomes(self, figures: Sequence[Figures]) -> tuple[GateOutcome, ...]:
        """What each gate says, in their order."""
        prompts = [sound.request.prompt for sound in self.sounds]
        spreads: dict[str, Spread] = {
            key: spread([one[key] for one in figures], np.random.default_rng(1), groups=prompts)
            for key in dict.fromkeys(gate.figure for gate in self.gates)
        }
        return judge(self.gates, self.precision, spreads)

    def shares(self, outcomes: Sequence[GateOutcome]) -> tuple[float, ...]:
        """How much of each gate is used up; see ``share_used``."""
        pairs = zip(self.gates, outcomes, strict=True)
        return tuple(share_used(gate, found.measured) for gate, found in pairs if found.measured is not None)

    def _stage_figures(self, stage: str, sound: CalibrationSound, made: CalibrationSound) -> Figures:
        """Of one stage that was given what the float model gave it."""
        if stage == "text_encoder":
            tokens, pooled = (signal_to_noise_db(*pair) for pair in zip(sound.text, made.text, strict=True))
            return {"text_encoder.tokens_snr_db": tokens, "text_encoder.pooled_snr_db": pooled}
        if stage == "generator":
            return {"generator.latent_snr_db": signal_to_noise_db(sound.latent, made.latent)}
        audio, count = self.model.audio, self.model.audio.num_samples(sound.request.seconds)
        before, after = (item.waveform[0, :, :count] for item in (sound, made))
        magnitudes = (compared(stage, item.waveform) for item in (sound, made))
        return {
            "decoder.log_mel_distance": mel_distance(before, after, audio.sample_rate),
            MAGNITUDES: signal_to_noise_db(*magnitudes),
        }


def _finished(sound: CalibrationSound, audio: AudioSpec) -> NDArray[np.float32]:
    count = audio.num_samples(sound.request.seconds)
    return finish_waveform(sound.waveform[0], count, audio.sample_rate).samples
