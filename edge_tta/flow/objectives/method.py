"""What a training method is to the loop: the networks it needs besides the generator, its optimisers, its losses.

An objective is a frozen dataclass of settings, read from a recipe. ``objective.method(generator, teacher)`` sets it to
work. Most methods train the generator alone on one loss; adversarial and distribution-matching ones bring further
networks, each with an optimiser of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from edge_tta.flow.path import Condition

SamplerName = Literal["euler", "ping-pong"]

GENERATOR = "generator"
"""Name of the generator's optimiser."""


class Method(Protocol):
    """A training method at work."""

    sampler: SamplerName
    """How the trained generator is sampled."""
    classifier_free: bool
    """Whether guidance combines two passes at sampling; False where the scale is an input or built in."""

    def modules(self) -> dict[str, nn.Module]:
        """Networks besides the generator whose weights a checkpoint holds, by name; frozen ones are left out."""
        ...

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters of each optimiser by name, in the order in which they step; one is called "generator"."""
        ...

    def due(self, group: str, step: int) -> bool:
        """Whether an optimiser steps at a step: two time scales are steps left out."""
        ...

    def losses(
        self, group: str, data: Tensor, condition: Condition, number: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Scalar losses of one optimiser; ``loss`` is minimised, the others are logged.

        Args:
            group: name of the optimiser.
            data: float32 [B, L, C], standardised latents of real sound.
            condition: their text and durations.
            number: number of the batch; the same batch comes again while the recipe reuses it.
            generator: of the CPU; source of every draw.
        """
        ...


Losses = Callable[[Tensor, Condition, int, torch.Generator], dict[str, Tensor]]
"""Latents, condition, batch number and random source to scalar losses."""


class GeneratorAlone:
    """Method of an objective that trains the generator on one loss.

    Args:
        generator: what is trained.
        losses: the objective's losses.
        classifier_free: whether guidance combines two passes at sampling.
    """

    sampler: SamplerName = "euler"

    def __init__(self, generator: nn.Module, losses: Losses, classifier_free: bool = False) -> None:
        self.generator, self._losses, self.classifier_free = generator, losses, classifier_free

    def modules(self) -> dict[str, nn.Module]:
        """None."""
        return {}

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """One optimiser."""
        return {GENERATOR: list(self.generator.parameters())}

    def due(self, group: str, step: int) -> bool:
        """At every step."""
        return True

    def losses(
        self, group: str, data: Tensor, condition: Condition, number: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The objective's losses."""
        return self._losses(data, condition, number, generator)


class Objective(Protocol):
    """Settings of a training method."""

    def method(self, generator: nn.Module, teacher: nn.Module | None) -> Method:
        """Set the objective to work.

        Args:
            generator: what is trained.
            teacher: frozen generator, if the recipe names one.

        Raises:
            ConfigError: the method needs a teacher, or takes none.
        """
        ...
