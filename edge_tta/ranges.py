"""Ranges of settings, checked in one way wherever a dataclass of settings is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import Any

from edge_tta.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """Numbers that a setting may have. No range holds NaN or an infinity."""

    low: float = -math.inf
    high: float = math.inf
    above_low: bool = False
    """Whether ``low`` itself is left out."""
    below_high: bool = False
    """Whether ``high`` itself is left out."""

    def __contains__(self, value: float) -> bool:
        if not self.low <= value <= self.high or abs(value) == math.inf:
            return False
        return not (self.above_low and value == self.low) and not (self.below_high and value == self.high)

    def __str__(self) -> str:
        low, high = (f"{end:d}" if isinstance(end, int) else f"{end:g}" for end in (self.low, self.high))
        if self.low == -math.inf and self.high == math.inf:
            return "finite numbers"
        if self.high == math.inf:
            return f"numbers {'above' if self.above_low else 'from'} {low}"
        if self.low == -math.inf:
            return f"numbers {'below' if self.below_high else 'up to'} {high}"
        return f"{'above ' * self.above_low}{low} to {'below ' * self.below_high}{high}"


FINITE = Range()
SHARE = Range(0, 1)
"""Shares and probabilities."""
BELOW_ONE = Range(0, 1, below_high=True)
"""Shares of which all would leave nothing, and decays."""
NOT_NEGATIVE = Range(0)
POSITIVE = Range(0, above_low=True)
COUNT = Range(1)
"""How many of something that there has to be."""
SEED = Range(0, 2**31 - 1)


def require_ranges(config: Any, **ranges: Range | tuple[float, float]) -> None:
    """Refuse settings outside their ranges; of a tuple every value is checked.

    Args:
        config: dataclass of settings.
        ranges: by name of the setting, dotted for one of a table below; a pair is a range with both ends.

    Raises:
        ConfigError: names the setting, its value and the range.
    """
    for name, given in ranges.items():
        allowed = given if isinstance(given, Range) else Range(*given)
        found = attrgetter(name)(config)
        for value in found if isinstance(found, tuple) else (found,):
            if value not in allowed:
                raise ConfigError(f"{name} {value!r} is out of range: allowed are {allowed}")


def require_rising(config: Any, *names: str, strictly: bool = False) -> None:
    """Refuse settings that are not in rising order.

    Raises:
        ConfigError: names the first two that are not, with their values.
    """
    for low, high in pairwise(names):
        first, second = attrgetter(low)(config), attrgetter(high)(config)
        if first > second or (strictly and first == second):
            relation = "not below" if strictly else "above"
            raise ConfigError(f"{low} {first!r} is {relation} {high} {second!r}")
