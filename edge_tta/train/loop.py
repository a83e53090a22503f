"""The training loop: one readable loop over any stage, with guards, moving averages and exact resume."""

from __future__ import annotations

import json
import logging
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from edge_tta.errors import TrainingError
from edge_tta.train.checkpoint import RunState, newest_run_state, save_run_state
from edge_tta.train.stage import Stage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train."""

    steps: int = 1000
    """Optimiser steps."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    final_learning_rate: float = 0.03
    """Learning rate at the last step as a share of the peak (cosine)."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises from zero."""
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 1e-3
    clip_norm: float = 2.0
    """Gradients are scaled down to this norm."""
    average_decay: float = 0.999
    """Decay of the moving average of the weights, smaller in the first steps."""
    log_every: int = 50
    checkpoint_every: int = 500
    validate_every: int = 0
    """Steps between validations and samples; 0 for only at the end."""
    seed: int = 0
    max_bad_steps: int = 3
    """Consecutive non-finite steps after which training stops."""
    divergence_factor: float = 10.0
    """A gradient norm above this many running medians is a warning sign ..."""
    divergence_steps: int = 20
    """... and that many of them in a row end the run."""


@dataclass(frozen=True)
class Progress:
    """What the loop reports."""

    step: int
    steps: int
    seconds_per_step: float
    eta_seconds: float
    values: dict[str, float]


def learning_rate(config: LoopConfig, step: int) -> float:
    """Warm-up, then cosine to the final share; ``step`` counts from 0."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * step / max(1, config.steps)))
    return (
        config.learning_rate * warm * (config.final_learning_rate + (1 - config.final_learning_rate) * cosine)
    )


class MovingAverage:
    """Exponential moving average of all floating-point state of some modules."""

    def __init__(self, modules: dict[str, nn.Module], decay: float) -> None:
        self.modules, self.decay = modules, decay
        self.values = {name: value.detach().clone() for name, value in self._live().items()}

    def _live(self) -> dict[str, Tensor]:
        return {
            f"{module_name}.{name}": value
            for module_name, module in self.modules.items()
            for name, value in module.state_dict().items()
            if value.is_floating_point()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the live weights; early steps forget faster."""
        decay = min(self.decay, (step + 1) / (step + 20))
        live = self._live()
        names = list(self.values)
        torch._foreach_lerp_([self.values[n] for n in names], [live[n] for n in names], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages into the modules for a while."""
        live = self._live()
        backup = {name: value.detach().clone() for name, value in live.items()}
        try:
            with torch.no_grad():
                for name, value in live.items():
                    value.copy_(self.values[name])
            yield
        finally:
            with torch.no_grad():
                for name, value in live.items():
                    value.copy_(backup[name])


class Trainer:
    """Runs a stage.

    Args:
        stage: what to train.
        config: loop settings.
        directory: run directory; checkpoints, logs and samples go there.
        digest: digest of the recipe; a checkpoint of another recipe is refused.
        on_progress: called every ``log_every`` steps.
    """

    def __init__(
        self,
        stage: Stage,
        config: LoopConfig,
        directory: Path,
        digest: str = "",
        on_progress: Callable[[Progress], Any] | None = None,
    ) -> None:
        self.stage, self.config, self.directory, self.digest = stage, config, directory, digest
        self.on_progress = on_progress
        self.step = 0
        self.optimisers = {
            name: torch.optim.AdamW(
                parameters, config.learning_rate, config.betas, weight_decay=config.weight_decay
            )
            for name, parameters in stage.groups().items()
        }
        modules = stage.modules()
        self.average = MovingAverage({name: modules[name] for name in stage.averaged()}, config.average_decay)
        self._norms: dict[str, deque[float]] = {name: deque(maxlen=100) for name in self.optimisers}
        self._wild_steps = 0
        self._bad_steps = 0
        self._stop = False

    def train(self) -> None:
        """Train to the configured number of steps, from wherever the run is.

        Raises:
            TrainingError: too many non-finite steps, or divergence; the last good checkpoint stays.
        """
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for number in before:
                signal.signal(number, self._request_stop)
        except ValueError:
            before = {}  # Not the main thread: signals stay as they are.
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self._run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _request_stop(self, *_: object) -> None:
        self._stop = True

    def _run(self) -> None:
        config = self.config
        window: dict[str, list[float]] = {}
        started, first = time.monotonic(), self.step
        with (self.directory / "log.jsonl").open("a", encoding="utf-8") as log:
            while self.step < config.steps and not self._stop:
                for name, value in self.train_step().items():
                    window.setdefault(name, []).append(value)
                done = self.step == config.steps
                if self.step % config.log_every == 0 or done:
                    per_step = (time.monotonic() - started) / max(1, self.step - first)
                    means = {name: sum(values) / len(values) for name, values in window.items()}
                    window.clear()
                    progress = Progress(
                        self.step, config.steps, per_step, per_step * (config.steps - self.step), means
                    )
                    log.write(json.dumps({"step": self.step, "seconds_per_step": per_step, **means}) + "\n")
                    log.flush()
                    if self.on_progress is not None:
                        self.on_progress(progress)
                if self.step % config.checkpoint_every == 0 or done:
                    self.save()
                if done or (config.validate_every and self.step % config.validate_every == 0):
                    self.show(log)
        if self._stop:
            self.save()

    def train_step(self) -> dict[str, float]:
        """One step of every optimiser; advances ``step``. Non-finite gradients change nothing but the count."""
        batch = self.stage.batch(self.step)
        values: dict[str, float] = {}
        rate = learning_rate(self.config, self.step)
        healthy = True
        for index, (name, optimiser) in enumerate(self.optimisers.items()):
            generator = torch.Generator().manual_seed((self.config.seed * 2**20 + self.step) * 8 + index)
            parameters = [p for part in optimiser.param_groups for p in part["params"]]
            losses = self.stage.losses(name, batch, generator)
            optimiser.zero_grad(set_to_none=True)
            losses["loss"].backward()
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm))
            prefix = "" if len(self.optimisers) == 1 else f"{name}_"
            values.update({prefix + key: float(value.detach()) for key, value in losses.items()})
            values[prefix + "gradient_norm"] = norm
            if not math.isfinite(norm) or not math.isfinite(float(losses["loss"].detach())):
                healthy = False
                break
            for part in optimiser.param_groups:
                part["lr"] = rate
            optimiser.step()
            self._watch(name, norm)
        self.step += 1
        if healthy:
            self._bad_steps = 0
            self.average.update(self.step)
        else:
            self._bad_steps += 1
            logger.warning("step %d: loss or gradient is not finite, step skipped", self.step)
            if self._bad_steps > self.config.max_bad_steps:
                (self.directory / "bad_step.json").write_text(
                    json.dumps({"step": self.step, "values": str(values)})
                )
                raise TrainingError(
                    f"{self._bad_steps} steps in a row were not finite, up to step {self.step}; "
                    f"the last good checkpoint is in {self.directory / 'checkpoints'}"
                )
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def _watch(self, name: str, norm: float) -> None:
        """Stop when gradients stay far above their running median."""
        norms = self._norms[name]
        usual = median(norms) if len(norms) >= 50 else None
        if usual is not None and norm > self.config.divergence_factor * usual:
            self._wild_steps += 1
            if self._wild_steps >= self.config.divergence_steps:
                raise TrainingError(
                    f"gradients of '{name}' stayed above {self.config.divergence_factor:g} times their median "
                    f"for {self._wild_steps} steps, up to step {self.step + 1}: the run diverges"
                )
        else:
            self._wild_steps = 0
            norms.append(norm)

    def show(self, log: Any) -> None:
        """Validate and write samples with the averaged weights."""
        with self.average.applied():
            figures = self.stage.validate()
            if figures:
                log.write(json.dumps({"step": self.step, "validation": figures}) + "\n")
                log.flush()
                if self.on_progress is not None:
                    self.on_progress(Progress(self.step, self.config.steps, 0.0, 0.0, figures))
            self.stage.sample(self.directory / "samples" / f"step-{self.step:08d}")

    def export(self, directory: Path) -> None:
        """Write the averaged weights as the stage's part of a model checkpoint."""
        with self.average.applied():
            self.stage.export(directory)

    def state(self) -> RunState:
        """Everything needed to go on exactly."""
        weights = {
            f"{module}.{name}": value
            for module, part in self.stage.modules().items()
            for name, value in part.state_dict().items()
        }
        optimiser: dict[str, Tensor] = {}
        for name, instance in self.optimisers.items():
            for index, entry in instance.state_dict()["state"].items():
                optimiser.update(
                    {f"{name}.{index}.{key}": torch.as_tensor(value) for key, value in entry.items()}
                )
        plain = {"digest": self.digest, "norms": {name: list(values) for name, values in self._norms.items()}}
        return RunState(self.step, weights, dict(self.average.values), optimiser, plain)

    def save(self) -> None:
        """Write a checkpoint; a full disk is a warning, not the end of the run."""
        try:
            save_run_state(self.directory / "checkpoints", self.state())
        except OSError as error:
            logger.warning("checkpoint at step %d was not written (%s); training goes on", self.step, error)

    def resume(self) -> bool:
        """Load the newest readable checkpoint of the run; False if there is none.

        Raises:
            TrainingError: no checkpoint can be read, or it belongs to another recipe or model.
        """
        state = newest_run_state(self.directory / "checkpoints")
        if state is None:
            return False
        if state.plain.get("digest") != self.digest:
            raise TrainingError(
                f"{self.directory} belongs to another recipe; choose another output directory"
            )
        for module, part in self.stage.modules().items():
            prefix = f"{module}."
            own = {
                name[len(prefix) :]: value for name, value in state.weights.items() if name.startswith(prefix)
            }
            part.load_state_dict(own, strict=True)
        for name, value in self.average.values.items():
            value.copy_(state.average[name])
        for name, optimiser in self.optimisers.items():
            entries: dict[int, dict[str, Tensor]] = {}
            for key, value in state.optimiser.items():
                group, index, field = key.split(".", 2)
                if group == name:
                    entries.setdefault(int(index), {})[field] = value
            optimiser.load_state_dict(
                {"state": entries, "param_groups": optimiser.state_dict()["param_groups"]}
            )
        for name, values in state.plain["norms"].items():
            self._norms[name].extend(values)
        self.step = state.step
        return True
