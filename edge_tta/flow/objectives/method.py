"""What a training method is to the loop: the networks it needs besides the generator, its optimisers, its losses.

An objective is a frozen dataclass of settings, read from a recipe. ``objective.method(generator, teacher)`` sets it to
work. Most methods train the generator alone on one loss; adversarial and distribution-matching ones bring further
networks, each with an optimiser of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor, nn

from edge_tta.errors import ConfigError
from edge_tta.flow.path import Condition

if TYPE_CHECKING:
    from edge_tta.flow.couples import Couples

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
        """One optimiser, of the parameters that are not frozen."""
        return {GENERATOR: [weight for weight in self.generator.parameters() if weight.requires_grad]}

    def due(self, group: str, step: int) -> bool:
        """At every step."""
        return True

    def losses(
        self, group: str, data: Tensor, condition: Condition, number: int, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The objective's losses."""
        return self._losses(data, condition, number, generator)


CoupleLosses = Callable[["Couples", Condition, torch.Generator], dict[str, Tensor]]
"""Couples, the condition they were made for and a random source to scalar losses."""

CoupleSource = Callable[[Tensor, Condition, int], "Couples"]
"""Latents whose shape counts, condition and batch number to couples."""


class CoupleLearner(GeneratorAlone):
    """Method of an objective that learns from couples: a teacher makes them, or they come with the batch.

    Args:
        generator: what is trained.
        couple_losses: the objective's losses.
        source: makes the couples of a batch; None where they are stored, and ``couple_losses`` is all that is asked.
    """

    def __init__(
        self, generator: nn.Module, couple_losses: CoupleLosses, source: CoupleSource | None = None
    ) -> None:
        def losses(
            data: Tensor, condition: Condition, number: int, draws: torch.Generator
        ) -> dict[str, Tensor]:
            if source is None:
                raise ConfigError("stored couples come with their batch; there is no teacher to make others")
            return couple_losses(source(data, condition, number), condition, draws)

        super().__init__(generator, losses)
        self.couple_losses = couple_losses


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
