"""Everything a flow computes stays where its data are: on the meta device, any tensor left on the CPU is an error.

The meta device has shapes and no values, so steps that look at a value are given it: ARC's classes of texts, and
anchoring is asked for no updates. Draws come from the CPU and must be moved.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from flow_cases import ANCHORED, METHODS
from torch import Tensor

from edge_tta.flow.couples import Couples, Simulation
from edge_tta.flow.objectives import arc
from edge_tta.flow.path import Condition
from edge_tta.flow.ping_pong import ping_pong
from edge_tta.flow.sampler import sample
from edge_tta.flow.straightness import couple_straightness, flow_straightness
from edge_tta.model.generator import Generator
from edge_tta.model.presets import preset

TINY = preset("edge-tiny").generator
META = torch.device("meta")
ROWS, FRAMES = 6, 32


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The meta device knows no autocast; where it is used, it is only switched off."""

    def off(_: str, enabled: bool) -> nullcontext[None]:
        assert not enabled
        return nullcontext()

    monkeypatch.setattr(torch, "autocast", off)


def build() -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Generator(TINY).to(META)


def condition() -> Condition:
    width = TINY.text_width
    return Condition(
        torch.zeros(ROWS, 3, width, device=META),
        torch.zeros(ROWS, width, device=META),
        torch.ones(ROWS, 3, dtype=torch.bool, device=META),
        torch.ones(ROWS, device=META),
    )


def latents() -> Tensor:
    return torch.zeros(ROWS, FRAMES, TINY.latent_channels, device=META)


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_meta_device_notices_what_was_left_behind() -> None:
    """What all tests here rest on."""
    with pytest.raises(RuntimeError, match="device"):
        _ = torch.ones(3) * torch.ones(3, device=META)


@pytest.mark.parametrize(("objective", "has_teacher"), METHODS)
def test_losses_of_every_method(objective: Any, has_teacher: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arc, "text_classes", lambda text: torch.arange(len(text.pooled)))
    teacher = build().requires_grad_(False) if has_teacher else None
    method = objective.method(build(), teacher)
    for module in method.modules().values():
        module.to(META)
    for group, weights in method.groups().items():
        found = method.losses(group, latents(), condition(), 1, draws())
        assert {name for name, value in found.items() if value.device != META} == set()
        found["loss"].backward()
        assert all(weight.device == META for weight in weights)


def test_samplers() -> None:
    model = build()
    for classifier_free in (False, True):
        made = sample(model, latents(), condition(), 2, 3.0, classifier_free)
        assert made.device == META and made.shape == latents().shape
    assert ping_pong(model, latents(), condition(), 3, draws(), 3.0).device == META


def test_couples_and_straightness() -> None:
    model, scale = build(), torch.ones(ROWS, device=META)
    for simulation in (Simulation(steps=2), Simulation(steps=2, classifier_free=False), ANCHORED):
        couples = simulation.draw(model, latents(), condition(), draws())
        assert {part.device for part in vars(couples).values()} == {META}
    couples = Couples(latents(), latents(), scale, scale)
    assert couple_straightness(model, couples, condition(), True, points=2).device == META
    assert flow_straightness(model, latents(), condition(), scale, False, steps=2).device == META
