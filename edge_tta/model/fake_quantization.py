"""Networks that compute in float what their quantized form will compute, and learn through it.

Weights and inputs of chosen Linears are rounded to the integers of ``edge_tta.model.integers`` and back. Rounding has
no useful derivative, so gradients pass it as if it were not there (straight-through estimator, Bengio et al., 2013,
arXiv 1308.3432). Parameters keep their names and stay float: a checkpoint is one of the plain network.

Dynamic ranges are found per example, as on the device, where the batch is 1. Padding takes part in them, which a device
never sees; batches of texts of about equal length keep that small.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.errors import ConfigError
from edge_tta.model.integers import quantize_weight, quantized_activations
from edge_tta.model.scheme import Scheme, StageScheme


def straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """``rounded`` bit for bit, with the derivative of ``value``."""
    return rounded.detach() + (value - value.detach())


class FakeQuantizedLinear(nn.Linear):
    """A Linear that sees its weight, and its inputs if the scheme says so, as integers would hold them.

    Args:
        linear: whose parameters it takes; they are shared, not copied.
        scheme: int8 per channel with dynamic inputs, or int8 or int4 in blocks.

    Raises:
        ConfigError: a scheme whose numbers are not known while training, such as calibrated ranges.
    """

    def __init__(self, linear: nn.Linear, scheme: Scheme) -> None:
        if scheme.is_float or scheme.activations == "static":
            raise ConfigError(f"training imitates no layer with {scheme}")
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.scheme = scheme
        quantize_weight(self.weight[:1], scheme)  # What has no integers is told here, not in the first step.

    def forward(self, x: Tensor) -> Tensor:
        """Product with the rounded weight; x [batch, ..., in]."""
        if self.scheme.activations == "dynamic":
            x = straight_through(x, quantized_activations(x, self.scheme))
        weight = straight_through(self.weight, quantize_weight(self.weight, self.scheme).dequantized())
        return F.linear(x, weight, self.bias)


def fake_quantize(module: nn.Module, settings: StageScheme, stage: str) -> dict[str, Scheme]:
    """Make the Linears of a network compute as their quantized form will, in place.

    Args:
        module: network of a stage.
        settings: which layers and how; as the stage's table in a quantization recipe.
        stage: prefix of the weights' names in the rules, such as "generator".

    Returns:
        Schemes by name of weight.

    Raises:
        ConfigError: a rule matches no Linear, none is left to quantize, or a scheme cannot be imitated.
    """
    linears = {
        f"{stage}.{name}.weight": (name, child)
        for name, child in module.named_modules()
        if isinstance(child, nn.Linear)
    }
    for rule in settings.layers:
        if not any(fnmatchcase(name, rule.pattern) for name in linears):
            raise ConfigError(f"'{rule.pattern}' matches no Linear of the {stage}")
    made = {}
    for weight, (name, child) in linears.items():
        scheme = settings.scheme_of(weight, child.weight.numel())
        if not scheme.is_float:
            parent, _, last = name.rpartition(".")
            setattr(module.get_submodule(parent), last, FakeQuantizedLinear(child, scheme))
            made[weight] = scheme
    if not made:
        raise ConfigError(f"no Linear of the {stage} would be quantized; see min_elements and the rules")
    return made
