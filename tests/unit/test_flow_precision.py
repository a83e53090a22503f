"""Every method trains under bf16 autocast, with weights, losses and gradients in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from flow_cases import METHODS, condition_of, generator_of, latents_of, network


@pytest.mark.parametrize(("objective", "has_teacher"), METHODS)
def test_every_method_trains_in_bf16(objective: Any, has_teacher: bool) -> None:
    teacher = network(1).requires_grad_(False) if has_teacher else None
    method = objective.method(network(), teacher)
    for group, weights in method.groups().items():
        with torch.autocast("cpu", torch.bfloat16):
            found = method.losses(group, latents_of(6, 16), condition_of(6), 1, generator_of(3))
        assert found["loss"].dtype == torch.float32 and torch.isfinite(found["loss"])
        found["loss"].backward()
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)
