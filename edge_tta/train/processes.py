"""The processes that train together: one, or as many as torchrun started; their device, their sums, who may write.

Gradients are averaged here in the open, not by a wrapper around the module: a stage may call its modules as often as it
needs, under forward-mode differentiation as well, which wrappers do not allow.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor

from edge_tta.errors import ConfigError, MissingExtraError

PATIENCE = timedelta(hours=6)
"""How long processes wait for the one that decodes clips or writes samples."""


def is_main_process() -> bool:
    """Whether this process is the one that writes and reports; known before its peers are met."""
    return os.environ.get("RANK", "0") == "0"


class Processes:
    """This process among its peers.

    Args:
        device: "auto", "cpu", "cuda" or any other name torch knows.

    Raises:
        ConfigError: the device is not there.
        MissingExtraError: accelerate is not installed.
    """

    def __init__(self, device: str = "auto") -> None:
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise MissingExtraError("train", "training") from error
        self._state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
        asked = int(os.environ.get("WORLD_SIZE", "1"))
        if asked > 1 and self._state.num_processes == 1:
            raise ConfigError(
                f"torchrun started {asked} processes, but loop.device '{device}' lets them not find each other; "
                "without accelerators give loop.device=cpu"
            )
        self.device = self._choose(device)
        self.count: int = self._state.num_processes
        """How many processes train together."""
        self.index: int = self._state.process_index
        """Which of them this is, from 0."""

    def _choose(self, name: str) -> torch.device:
        try:
            chosen = self._state.device if name == "auto" else torch.device(name)
            if chosen.index is None and chosen.type == self._state.device.type:
                chosen = self._state.device
            torch.empty(0, device=chosen)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"loop.device '{name}' cannot be used ({reason}); use auto, cpu or cuda"
            ) from error
        return chosen

    @property
    def is_main(self) -> bool:
        """Whether this process writes checkpoints, logs and samples."""
        return self.index == 0

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs the block before the others, which then find its caches."""
        with self._state.main_process_first():
            yield

    def average(self, values: Sequence[float]) -> list[float]:
        """Means over the processes; NaN anywhere is NaN everywhere."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64 if self.device.type != "mps" else torch.float32)
        total = total.to(self.device)
        torch.distributed.all_reduce(total)
        return [value / self.count for value in total.tolist()]

    def average_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace every gradient by its mean over the processes; all must have gradients on the same parameters."""
        if self.count == 1:
            return
        gradients = [weight.grad for weight in parameters if weight.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        torch.distributed.all_reduce(flat)
        flat /= self.count
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))
