"""What a training stage offers to the loop: modules, deterministic batches, losses per optimiser, samples."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Generator, Tensor, nn


class Stage(Protocol):
    """One thing to train. A batch and every random draw are functions of (seed, number), so a run resumes exactly."""

    def origin(self) -> dict[str, str]:
        """Digests of what is learnt from besides the stage's own weights, by its name; empty for what there is none of.

        A run goes on with the same, wherever it lies. What is not known is left out.
        """
        ...

    def modules(self) -> dict[str, nn.Module]:
        """Modules whose weights a checkpoint holds, by name."""
        ...

    def averaged(self) -> Iterable[str]:
        """Names of modules of which an exponential moving average is kept and exported."""
        ...

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of each optimiser, by name, in the order in which they step."""
        ...

    def due(self, group: str, step: int) -> bool:
        """Whether an optimiser steps at a step; a method of two time scales leaves some out."""
        ...

    def to(self, device: torch.device) -> None:
        """Move the modules, and every constant that losses, validation or samples need."""
        ...

    def batch(self, step: int) -> Any:
        """Training batch number ``step``, on the CPU: a tensor, or tensors in tuples, dataclasses or dictionaries.

        Numbers above 2**32 belong to further processes and accumulated parts; they are batches of their own.
        """
        ...

    def losses(self, group: str, batch: Any, generator: Generator) -> dict[str, Tensor]:
        """Scalar losses for one optimiser; ``loss`` is minimised, the others are logged.

        Where ``loss`` is weighed by how large an error is, ``error`` is the unweighted figure by which the loop tells
        that a run diverges.

        Args:
            group: name of the optimiser.
            batch: what ``batch`` returned, moved to the device.
            generator: of the CPU, so that draws are the same on every device.
        """
        ...

    def validate(self) -> dict[str, float]:
        """Figures on validation data with the current weights; may be empty."""
        ...

    def sample(self, directory: Path) -> None:
        """Write sounds and pictures that show how far training is; may write nothing."""
        ...

    def export(self, directory: Path) -> None:
        """Write the stage's part of a model checkpoint with the current weights."""
        ...
