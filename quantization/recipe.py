"""Quantization recipes: how the layers of every stage are stored and multiplied, and why some otherwise."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal, TypeVar

from edge_tta.bundle.manifest import STAGES
from edge_tta.config import from_dict
from edge_tta.errors import ConfigError
from edge_tta.model.scheme import Scheme, StageScheme
from quantization.refusals import Target, refuse_known_faults

Recipe = TypeVar("Recipe")
IntegerPrecision = Literal["int8", "int4"]
FOUR_BITS = frozenset({"int4", "palette4"})


@dataclass(frozen=True)
class QuantizationRecipe:
    """One way to quantize a model for one target; a stage without a table stays float."""

    name: str
    target: Target
    """Which runtime it is for; the same scheme can be right on one and wrong on another."""
    description: str = ""
    text_encoder: StageScheme = field(default_factory=StageScheme)
    generator: StageScheme = field(default_factory=StageScheme)
    decoder: StageScheme = field(default_factory=StageScheme)

    def __post_init__(self) -> None:
        for stage in STAGES:
            for scheme in self.stage(stage).schemes():
                refuse_known_faults(self.target, scheme, stage)

    @property
    def is_static(self) -> bool:
        """Whether some layer needs calibration."""
        schemes = (scheme for stage in STAGES for scheme in self.stage(stage).schemes())
        return any(scheme.activations == "static" for scheme in schemes)

    @property
    def precision(self) -> IntegerPrecision:
        """What a variant made by it is labelled; see ``precision_of``.

        Raises:
            ConfigError: it quantizes nothing.
        """
        found = precision_of(scheme for stage in STAGES for scheme in self.stage(stage).schemes())
        if found is None:
            raise ConfigError(f"recipe {self.name} quantizes nothing: no stage has a scheme")
        return found

    def stage(self, name: str) -> StageScheme:
        """What is said of "text_encoder", "generator" or "decoder"."""
        if name not in STAGES:
            raise ConfigError(f"unknown stage '{name}'; stages are {', '.join(STAGES)}")
        found: StageScheme = getattr(self, name)
        return found

    def check_patterns(self, stage: str, names: Collection[str]) -> None:
        """Refuse rules of a stage that match none of its layers' names.

        Raises:
            ConfigError: names the first such pattern.
        """
        for rule in self.stage(stage).layers:
            if not any(fnmatchcase(name, rule.pattern) for name in names):
                raise ConfigError(f"recipe {self.name}: '{rule.pattern}' matches no layer of {stage}")


def precision_of(schemes: Iterable[Scheme]) -> IntegerPrecision | None:
    """The label of a variant whose layers have these schemes: the fewest bits that a quantized weight has.

    "int8": every weight that is not float has eight bits. "int4": some have four, as integers or as places in a table
    of 16 values; others may have eight or be float. None: all are float.
    """
    weights = {scheme.weights for scheme in schemes if not scheme.is_float}
    if not weights:
        return None
    return "int4" if weights & FOUR_BITS else "int8"


def list_recipes() -> dict[str, QuantizationRecipe]:
    """Packaged recipes by name."""
    return {name: load_recipe(name) for name in packaged_names("quantization")}


def packaged_names(package: str) -> list[str]:
    """Names of the recipes in the ``recipes`` folder of a package."""
    folder = resources.files(package).joinpath("recipes")
    return sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(name: str) -> QuantizationRecipe:
    """A packaged quantization recipe by name, or a TOML file.

    Raises:
        ConfigError: unknown name or malformed file.
    """
    return read_recipe(QuantizationRecipe, "quantization", name)


def read_recipe(kind: type[Recipe], package: str, name: str) -> Recipe:
    """A recipe of a toolchain package, from its ``recipes`` folder by name, or from a TOML file.

    Raises:
        ConfigError: unknown name or malformed file.
    """
    path: Traversable = Path(name)
    if not name.endswith(".toml"):
        path = resources.files(package).joinpath("recipes", f"{name}.toml")
        known = packaged_names(package)
        if name not in known:
            raise ConfigError(
                f"unknown {package} recipe '{name}'; known are {', '.join(known)}, or a .toml file"
            )
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: {error}") from error
    return from_dict(kind, document, name)
