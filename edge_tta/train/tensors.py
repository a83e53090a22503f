"""Modules and optimisers of a run as tensors by name, as checkpoints hold them, and back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edge_tta.errors import TrainingError


def weight_tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Weights and buffers of all modules by "module.name"; not copied."""
    return {
        f"{module}.{name}": value
        for module, part in modules.items()
        for name, value in part.state_dict().items()
    }


def load_weights(modules: Mapping[str, nn.Module], tensors: dict[str, Tensor]) -> None:
    """Put what ``weight_tensors`` gave into modules of the same shapes."""
    for module, part in modules.items():
        prefix = f"{module}."
        part.load_state_dict(
            {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        )


def optimiser_tensors(optimisers: Mapping[str, torch.optim.Optimizer]) -> dict[str, Tensor]:
    """State of all optimisers by "optimiser.parameter.field"; not copied."""
    return {
        f"{name}.{index}.{key}": torch.as_tensor(value)
        for name, optimiser in optimisers.items()
        for index, entry in optimiser.state_dict()["state"].items()
        for key, value in entry.items()
    }


def load_optimisers(optimisers: Mapping[str, torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Put what ``optimiser_tensors`` gave into optimisers of the same parameters; all of it, or nothing.

    Raises:
        TrainingError: a tensor belongs to no parameter, or has another shape than it.
    """
    entries: dict[str, dict[int, dict[str, Tensor]]] = {name: {} for name in optimisers}
    for key, value in tensors.items():
        group, index, field = key.rsplit(".", 2)
        parameters = optimisers[group].param_groups[0]["params"] if group in entries else []
        if not index.isdigit() or int(index) >= len(parameters):
            raise TrainingError(f"the checkpoint's optimiser state '{key}' has no parameter in this model")
        if value.dim():
            parameter = parameters[int(index)]
            if value.shape != parameter.shape:
                raise TrainingError(f"the checkpoint's optimiser state '{key}' does not fit this model")
            # The fused optimiser pairs elements by memory order: moments must be laid out as their weights are.
            value = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        entries[group].setdefault(int(index), {})[field] = value
    for name, optimiser in optimisers.items():
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": entries[name], "param_groups": groups})
