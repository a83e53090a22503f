"""The training loop: one readable loop over any stage, with guards, moving averages and exact resume."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edge_tta.errors import OutputError, TrainingError
from edge_tta.train.batches import to_device
from edge_tta.train.checkpoint import RunState, newest_run_state, require_fit, save_bad_batch, save_run_state
from edge_tta.train.definition import Definition
from edge_tta.train.ema import MovingAverage
from edge_tta.train.guards import DivergenceGuard, FiniteGuard
from edge_tta.train.log import RunLog
from edge_tta.train.loop_config import LoopConfig, learning_rate
from edge_tta.train.processes import Processes
from edge_tta.train.progress import Pace, Progress
from edge_tta.train.signals import on_stop_signal
from edge_tta.train.stage import Stage
from edge_tta.train.tensors import load_optimisers, load_weights, optimiser_tensors, weight_tensors

logger = logging.getLogger(__name__)

STREAM = 2**32
"""Batch numbers of a process or accumulated part start at a multiple of this: no two of them share a batch."""


class Trainer:
    """Runs a stage.

    Args:
        stage: what to train.
        config: loop settings.
        directory: run directory; checkpoints, logs and samples go there.
        settings: what decides what is learnt; a checkpoint of a run with others is refused (``Definition``).
        on_progress: called every ``log_every`` steps, in the main process.
        processes: this process among its peers; found out if None.
    """

    def __init__(
        self,
        stage: Stage,
        config: LoopConfig,
        directory: Path,
        settings: Mapping[str, Any] | None = None,
        on_progress: Callable[[Progress], Any] | None = None,
        processes: Processes | None = None,
    ) -> None:
        self.stage, self.config, self.directory = stage, config, directory
        self.definition = Definition(settings or {}, stage.origin())
        self.on_progress = on_progress
        self.processes = processes or Processes(config.device)
        self.device = self.processes.device
        self.step = 0
        self.stopped = False
        """Whether a signal ended the run early; its state was saved."""
        stage.to(self.device)
        self.optimisers = {
            name: torch.optim.AdamW(
                parameters, config.learning_rate, config.betas, weight_decay=config.weight_decay, fused=True
            )
            for name, parameters in stage.groups().items()
        }
        modules = stage.modules()
        self.average = MovingAverage({name: modules[name] for name in stage.averaged()}, config.average_decay)
        self._finite = FiniteGuard(config.max_bad_steps)
        # Opponents' losses rise when the other side gets better; that is no divergence.
        loss_factor = config.divergence_loss_factor if len(self.optimisers) == 1 else 0.0
        self._guards = {
            name: DivergenceGuard(
                name,
                config.divergence_factor,
                config.divergence_steps,
                loss_factor,
                config.divergence_loss_steps,
            )
            for name in self.optimisers
        }
        self.stopped_by: int | None = None
        """The signal that this process was asked to stop by."""
        self._window: dict[str, list[float]] = {}
        """Values since the last record of the log."""
        self._pace = Pace()

    def train(self) -> None:
        """Train to the configured number of steps, from wherever the run is.

        SIGINT and SIGTERM end it after the step under way, with a checkpoint; a second one acts as it did before.

        Raises:
            TrainingError: too many non-finite steps, or divergence; the last good checkpoint stays.
            OutputError: the run directory cannot be made.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make {self.directory}: {error.strerror or error}") from error
        with on_stop_signal(self._request_stop):
            self._run()

    def _request_stop(self, signal: int) -> None:
        self.stopped_by = signal

    def _run(self) -> None:
        config, main = self.config, self.processes.is_main
        self._pace, first = Pace(), self.step
        log = RunLog(self.directory / "log.jsonl", self.step) if main else None
        while self.step < config.steps and not self.stopped:
            with self._pace.step():
                found = self.train_step()
            for name, value in found.items():
                self._window.setdefault(name, []).append(value)
            done = self.step == config.steps
            if self.step % config.log_every == 0 or done:
                means = {name: sum(values) / len(values) for name, values in self._window.items()}
                self._window.clear()
                if log is not None:
                    values = {"learning_rate": learning_rate(config, self.step - 1), **means}
                    per_step = self._pace.seconds_per_step
                    log.write({"step": self.step, "seconds_per_step": per_step, **values})
                    self._tell(values, per_step)
            if log is not None and (
                done or (config.validate_every and self.step % config.validate_every == 0)
            ):
                self.show(log)
            # Last: who goes on from a checkpoint need not make up for anything that belongs to its step.
            if main and (self.step % config.checkpoint_every == 0 or done):
                self.save()
        if main and self.stopped and self.step > first and self.step % config.checkpoint_every:
            self.save()

    def _tell(self, values: dict[str, float], per_step: float = 0.0) -> None:
        if self.on_progress is not None:
            left = self._pace.left(self.config.steps - self.step)
            self.on_progress(Progress(self.step, self.config.steps, per_step, left, values))

    def _numbers(self) -> list[int]:
        """Batch numbers of this process in this step."""
        first = self.processes.index * self.config.accumulate
        return [self.step + STREAM * (first + part) for part in range(self.config.accumulate)]

    def train_step(self) -> dict[str, float]:
        """One step of every optimiser; advances ``step``. Non-finite gradients change nothing but the count.

        Raises:
            TrainingError: too many non-finite steps in a row, or divergence.
        """
        numbers = self._numbers()
        batches = [to_device(self.stage.batch(number), self.device) for number in numbers]
        values: dict[str, float] = {}
        rate = learning_rate(self.config, self.step)
        healthy, watched = True, []
        for index, (name, optimiser) in enumerate(self.optimisers.items()):
            if not self.stage.due(name, self.step):
                continue
            parameters = [p for part in optimiser.param_groups for p in part["params"]]
            optimiser.zero_grad(set_to_none=True)
            found = self._accumulate(name, index, numbers, batches)
            self.processes.average_gradients(parameters)
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm))
            prefix = "" if len(self.optimisers) == 1 else f"{name}_"
            values.update({prefix + key: value for key, value in found.items()})
            values[prefix + "gradient_norm"] = norm
            if not math.isfinite(norm) or not math.isfinite(found["loss"]):
                healthy = False
                break
            for part in optimiser.param_groups:
                part["lr"] = rate
            optimiser.step()
            watched.append((self._guards[name], norm, found))
        self.step += 1
        if healthy:
            self._finite.healthy()
            self.average.update(self.step)
        else:
            self._skip(batches, numbers, values)
        for guard, norm, found in watched:
            guard.watch(norm, found)
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def _accumulate(self, group: str, index: int, numbers: list[int], batches: list[Any]) -> dict[str, float]:
        """Gradients of all batches of one optimiser; means of its losses over batches and processes."""
        totals: dict[str, Tensor] = {}
        share = 1.0 / len(batches)
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")
        for number, batch in zip(numbers, batches, strict=True):
            seed = (self.config.seed * 2**20 + number) * 8 + index
            generator = torch.Generator().manual_seed(seed % 2**63)
            with autocast:
                losses = self.stage.losses(group, batch, generator)
            (losses["loss"] * share if share < 1 else losses["loss"]).backward()
            for name, value in losses.items():
                value = value.detach().float() * share
                totals[name] = totals[name] + value if name in totals else value
        own = torch.stack(list(totals.values())).tolist()
        means = self.processes.average([*own, float(self.stopped_by is not None)])
        # Every process learns of a stop asked of any of them, so that none waits for another.
        self.stopped = self.stopped or means[-1] > 0
        return dict(zip(totals, means[:-1], strict=True))

    def _skip(self, batches: list[Any], numbers: list[int], values: dict[str, float]) -> None:
        """Note a step that was not finite; after too many, keep the batch for study and end the run."""
        logger.warning("step %d: loss or gradient is not finite, step skipped", self.step)
        if not self._finite.unhealthy():
            return
        path = self.directory / f"bad-step-{self.step:08d}-process-{self.processes.index}"
        try:
            save_bad_batch(path, batches, {"step": self.step, "batches": numbers, "values": str(values)})
            kept = f"their batch is in {path}"
        except OSError as error:
            kept = f"their batch could not be written ({error})"
        raise TrainingError(
            f"{self._finite.bad} steps in a row were not finite, up to step {self.step}; {kept}; "
            f"the last good checkpoint is in {self.directory / 'checkpoints'}"
        )

    def show(self, log: RunLog) -> None:
        """Validate and write samples with the averaged weights; a full disk is a warning."""
        with self.average.applied(), torch.no_grad():
            figures = self.stage.validate()
            if figures:
                log.write({"step": self.step, "validation": figures})
                self._tell(figures)
            try:
                self.stage.sample(self.directory / "samples" / f"step-{self.step:08d}")
            except (OSError, OutputError) as error:
                logger.warning("samples at step %d were not written (%s); training goes on", self.step, error)

    def export(self, directory: Path) -> None:
        """Write the averaged weights as the stage's part of a model checkpoint.

        Raises:
            OutputError: it cannot be written; the run's checkpoint has the weights still.
        """
        try:
            with self.average.applied():
                self.stage.export(directory)
        except OSError as error:
            raise OutputError(
                f"cannot write {directory}: {error.strerror or error}; make room and run again with --resume"
            ) from error

    def state(self) -> RunState:
        """Everything needed to go on exactly. Random draws are functions of the step and need no state."""
        plain = {
            **self.definition.plain(),
            "bad_steps": self._finite.bad,
            "guards": {name: guard.state() for name, guard in self._guards.items()},
            "window": {name: list(values) for name, values in self._window.items()},
        }
        return RunState(
            self.step,
            weight_tensors(self.stage.modules()),
            dict(self.average.values),
            optimiser_tensors(self.optimisers),
            plain,
        )

    def save(self) -> None:
        """Write a checkpoint; a full disk is a warning, not the end of the run."""
        try:
            save_run_state(self.directory / "checkpoints", self.state())
        except OSError as error:
            logger.warning("checkpoint at step %d was not written (%s); training goes on", self.step, error)

    def resume(self) -> bool:
        """Load the newest readable checkpoint of the run; False if there is none.

        Nothing is touched unless all of it fits.

        Raises:
            TrainingError: no checkpoint can be read, or it belongs to a run of another definition, length or model.
        """
        state = newest_run_state(self.directory / "checkpoints")
        steps = self.processes.average([float(state.step if state is not None else 0)])[0]
        if steps != (state.step if state is not None else 0):
            raise TrainingError("the processes see different checkpoints; they need a common run directory")
        if state is None:
            return False
        if changed := self.definition.require_settings(state.plain, self.directory):
            logger.info("%s goes on with %s", self.directory, changed)
        if state.step > self.config.steps:
            raise TrainingError(f"{self.directory} is at step {state.step}, beyond {self.config.steps} steps")
        # What a finished run has written may be what it learnt from.
        if state.step < self.config.steps:
            self.definition.require_origin(state.plain, self.directory)
        own = self.state()
        require_fit("weights", state.weights, own.weights)
        require_fit("average", state.average, own.average)
        load_optimisers(self.optimisers, state.optimiser)
        load_weights(self.stage.modules(), state.weights)
        for name, value in self.average.values.items():
            value.copy_(state.average[name])
        for name, guard in self._guards.items():
            guard.load(state.plain["guards"][name])
        self._finite.bad = int(state.plain["bad_steps"])
        # Checkpoints of earlier releases have none.
        self._window = {name: list(values) for name, values in state.plain.get("window", {}).items()}
        self.step = state.step
        return True
