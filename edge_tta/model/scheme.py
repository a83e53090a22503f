"""How layers are stored and multiplied in fewer bits, and which layers of a stage are treated otherwise, and why.

Free of torch: quantization recipes, training recipes and the networks that imitate quantization all read it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from edge_tta.errors import ConfigError
from edge_tta.ranges import NOT_NEGATIVE, require_ranges

BLOCK_SIZES = (16, 32, 64, 128, 256)
"""Weights along the input axis that may share a scale."""


@dataclass(frozen=True)
class Scheme:
    """How one layer is stored and multiplied; the default is float."""

    weights: Literal["float", "bfloat16", "int8", "uint8", "int4", "palette4"] = "float"
    """Type of the stored weights; "palette4" is a table of 16 values and four bits a weight that say which."""
    activations: Literal["float", "dynamic", "static"] = "float"
    """Inputs of the layer: as they are, or in eight bits with a range found while running or by calibration."""
    granularity: Literal["tensor", "channel", "block", "group"] = "channel"
    """Weights with one scale or palette: all, those of an output channel, ``block_size`` neighbours of a channel, or a
    group of ``block_size`` whole channels."""
    block_size: int = 0
    """See ``granularity``; 0 unless that is "block" or "group"."""
    reduce_range: bool = False
    """Weights in 7 of 8 bits, so that CPUs that add two products in 16 bits cannot saturate."""

    def __post_init__(self) -> None:
        blocks = self.granularity in ("block", "group")
        if blocks and self.block_size not in BLOCK_SIZES:
            raise ConfigError(
                f"block_size {self.block_size} is none of {', '.join(map(str, BLOCK_SIZES))}, which blocks need"
            )
        if not blocks and self.block_size:
            raise ConfigError(f"block_size {self.block_size} needs granularity 'block' or 'group'")
        if (self.weights == "palette4") != (self.granularity == "group"):
            raise ConfigError(f"{self.weights} weights do not go with granularity '{self.granularity}'")
        plain = self.activations == "float" and self.granularity == "channel" and not self.reduce_range
        if self.is_float and not plain:
            raise ConfigError("float weights have neither quantized inputs nor granularity nor a range")
        if self.reduce_range and self.weights != "int8":
            raise ConfigError(f"reduce_range is for int8 weights, not for {self.weights}")

    @property
    def is_float(self) -> bool:
        """Whether the layer stays as it is."""
        return self.weights == "float"

    def __str__(self) -> str:
        if self.is_float:
            return "float"
        shared = f"{self.granularity}s of {self.block_size}" if self.block_size else f"per {self.granularity}"
        bits = " in 7 bits" if self.reduce_range else ""
        return f"{self.weights}{bits} {shared}, {self.activations} inputs"


@dataclass(frozen=True)
class LayerRule:
    """Layers that are not treated as the rest of their stage."""

    pattern: str
    """Shell pattern over the names of weights, such as ``generator.audio_out.*``."""
    reason: str
    """Why; shown wherever the choice is shown."""
    scheme: Scheme = field(default_factory=Scheme)
    """What they get instead; float by default."""

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ConfigError(f"the rule for '{self.pattern}' gives no reason")


@dataclass(frozen=True)
class StageScheme:
    """How the layers of a stage are treated."""

    scheme: Scheme = field(default_factory=Scheme)
    """Of every matrix product with at least ``min_elements`` weights that no rule matches."""
    min_elements: int = 16384
    """Smaller weights stay float: there is nothing to gain."""
    layers: tuple[LayerRule, ...] = ()
    """Layers treated otherwise; the first rule that matches counts. Tables are quantized by a rule alone."""

    def __post_init__(self) -> None:
        require_ranges(self, min_elements=NOT_NEGATIVE)

    @property
    def is_float(self) -> bool:
        """Whether no layer is quantized, whatever the stage holds."""
        return self.scheme.is_float and all(rule.scheme.is_float for rule in self.layers)

    def schemes(self) -> tuple[Scheme, ...]:
        """Every scheme that the stage may use, the stage's own first."""
        return self.scheme, *(rule.scheme for rule in self.layers)

    def rule_of(self, name: str) -> LayerRule | None:
        """The first rule that matches the name of a weight."""
        return next((rule for rule in self.layers if fnmatchcase(name, rule.pattern)), None)

    def scheme_of(self, name: str, elements: int) -> Scheme:
        """How the weight of a matrix product is treated."""
        rule = self.rule_of(name)
        if rule is not None:
            return rule.scheme
        return self.scheme if elements >= self.min_elements else Scheme()
