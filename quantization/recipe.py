"""Quantization recipes: what becomes int8, what stays float, and why."""

from __future__ import annotations

import fnmatch
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from edge_tta.config import from_dict
from edge_tta.errors import ConfigError


@dataclass(frozen=True)
class KeepFloat:
    """Layers that stay float."""

    stage: Literal["text_encoder", "generator", "decoder"]
    pattern: str
    """Shell pattern over weight names."""
    reason: str


@dataclass(frozen=True)
class QuantizationRecipe:
    """One way to quantize."""

    name: str
    scheme: Literal["dynamic"]
    min_elements: int
    """Weights with fewer elements stay float."""
    reduce_range: bool
    """Weights in 7 bits, so that 16-bit accumulation on CPUs without VNNI cannot saturate."""
    keep_float: tuple[KeepFloat, ...] = ()

    def quantizes(self, stage: str, weight: str, elements: int) -> bool:
        """Whether a weight of a stage becomes int8."""
        kept = any(
            rule.stage == stage and fnmatch.fnmatchcase(weight, rule.pattern) for rule in self.keep_float
        )
        return elements >= self.min_elements and not kept


def load_recipe(name: str) -> QuantizationRecipe:
    """A packaged recipe by name.

    Raises:
        ConfigError: unknown name or malformed file.
    """
    folder = resources.files("quantization").joinpath("recipes")
    path = folder.joinpath(f"{name}.toml")
    if not path.is_file():
        known = sorted(
            entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
        )
        raise ConfigError(f"unknown quantization recipe '{name}'; known are {', '.join(known)}")
    return from_dict(QuantizationRecipe, tomllib.loads(path.read_text(encoding="utf-8")), name)
