"""Exponential moving average of weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """Exponential moving average of all floating-point state of some modules.

    Args:
        modules: modules by name, on the device they train on.
        decay: share of the average that an update keeps, once training is under way.
    """

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
        """Move towards the live weights; the decay is min(decay, (step + 1) / (step + 20)), so early steps fade."""
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
