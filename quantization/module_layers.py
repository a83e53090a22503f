"""The layers that a stage's graph will have, found by running its module: recipes are checked before exports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from quantization.onnx_layers import HELPER_VALUES, Kind, Layer

_ATEN = torch.ops.aten
_USES: dict[Any, tuple[int, Kind]] = {
    _ATEN.mm.default: (1, "product"),
    _ATEN.bmm.default: (1, "product"),
    _ATEN.addmm.default: (2, "product"),
    _ATEN.baddbmm.default: (2, "product"),
    _ATEN.embedding.default: (0, "table"),
    _ATEN.index_select.default: (0, "table"),
    _ATEN.convolution.default: (1, "convolution"),
}
"""By operator, which of its arguments is the weight of a layer, and of which kind."""
_GROUPS = 8
"""Place of a convolution's number of groups."""
_SEEN_FIRST = 4096
"""Values that tell of almost every matrix that it is no helper."""


class _Watch(TorchDispatchMode):
    """Notes which tensors of a module are weights of layers; a transposed view is the same tensor."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.found: dict[str, Layer] = {}
        self._tensors = tensors
        self._names = {_place(tensor): name for name, tensor in tensors.items()}

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function in _USES:
            place, kind = _USES[function]
            name = self._names.get(_place(arguments[place]))
            shape = () if name is None else tuple(self._tensors[name].shape)
            if name is not None and (kind == "convolution" or len(shape) == 2):
                grouped = kind == "convolution" and arguments[_GROUPS] > 1
                self.found.setdefault(name, Layer(name, kind, shape, grouped))
        return function(*arguments, **(options or {}))


def _place(tensor: Tensor) -> tuple[int, int, int]:
    return tensor.untyped_storage().data_ptr(), int(tensor.storage_offset()), tensor.numel()


def module_layers(module: nn.Module, inputs: Sequence[Tensor]) -> list[Layer]:
    """Every layer once, in the order in which the module runs, by the names that graphs give them.

    Whether a product's node adds a bias too, only the graph tells.

    Args:
        module: a stage.
        inputs: what it is run on.
    """
    watch = _Watch({**dict(module.named_parameters()), **dict(module.named_buffers())})
    with torch.no_grad(), watch:
        module(*inputs)
    return list(watch.found.values())


def helpers_of(module: nn.Module) -> Callable[[str], bool]:
    """Whether the matrix of a name holds a fixed operation and nothing learnt; see ``HELPER_VALUES``."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def is_fixed(name: str) -> bool:
        values = tensors[name].detach().flatten().numpy()
        few = len(np.unique(values[:_SEEN_FIRST])) <= HELPER_VALUES
        return few and len(np.unique(values)) <= HELPER_VALUES

    return is_fixed
