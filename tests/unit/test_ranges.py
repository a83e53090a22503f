"""Settings of recipes have ranges: one line names the key, its value and what is allowed."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any

import pytest

from edge_tta.config import to_dict
from edge_tta.errors import ConfigError
from edge_tta.ranges import BELOW_ONE, COUNT, FINITE, POSITIVE, SHARE, Range, require_ranges, require_rising
from edge_tta.train.recipes import Recipe, list_recipes, load_recipe

SHARES = "0 to 1"
COUNTS = "numbers from 1"
NOT_NEGATIVE = "numbers from 0"
POSITIVES = "numbers above 0"

CASES = [
    ("flow", "loop.steps", ("0", "-3"), COUNTS),
    ("flow", "loop.learning_rate", ("-1e-3", "0.0", "inf", "nan"), POSITIVES),
    ("flow", "loop.final_learning_rate", ("-0.1", "1.5"), SHARES),
    ("flow", "loop.warmup_steps", ("-1",), NOT_NEGATIVE),
    ("flow", "loop.betas", ("[0.9, 1.0]", "[-0.1, 0.9]"), "0 to below 1"),
    ("flow", "loop.weight_decay", ("-0.1",), NOT_NEGATIVE),
    ("flow", "loop.average_decay", ("1.0", "-0.5"), "0 to below 1"),
    ("flow", "loop.validate_every", ("-1",), NOT_NEGATIVE),
    ("flow", "loop.max_bad_steps", ("-1",), NOT_NEGATIVE),
    ("flow", "loop.divergence_factor", ("0.0",), POSITIVES),
    ("flow", "loop.divergence_steps", ("0",), COUNTS),
    ("flow", "loop.seed", ("-1", "2147483648"), "0 to 2147483647"),
    ("flow", "data.num_windows", ("0",), COUNTS),
    ("flow", "data.min_bandwidth_hz", ("-1.0",), NOT_NEGATIVE),
    ("flow", "data.own_caption_share", ("1.5", "-0.1", "nan"), SHARES),
    ("flow", "data.seed", ("-1",), "0 to 2147483647"),
    ("flow", "data.windows.mixture_share", ("7.0", "-0.1"), SHARES),
    ("flow", "data.windows.max_peak_db", ("3.0",), "-120 to 0"),
    ("flow", "generator.frames", ("0",), COUNTS),
    ("flow", "generator.max_frames", ("0",), COUNTS),
    ("flow", "generator.short_frames", ("0",), COUNTS),
    ("flow", "generator.short_step_share", ("1.1",), SHARES),
    ("flow", "generator.sample_steps", ("0",), COUNTS),
    ("flow", "generator.sample_seconds", ("0.0",), POSITIVES),
    ("flow", "generator.dropout", ("1.0",), "0 to below 1"),
    ("flow", "generator.reuse", ("0",), COUNTS),
    ("flow", "generator.text.wording_share", ("7",), SHARES),
    ("flow", "generator.text.wordings", ("0",), COUNTS),
    ("flow", "generator.flow_matching.null_share", ("7",), SHARES),
    ("flow", "generator.flow_matching.times.std", ("-1.0",), POSITIVES),
    ("meanaudio", "generator.public_text.max_tokens", ("1", "513"), "2 to 512"),
    ("meanflow", "generator.mean_flow.equal_share", ("1.5",), SHARES),
    ("meanflow", "generator.mean_flow.max_guidance", ("0.5",), COUNTS),
    ("meanflow", "generator.mean_flow.kappa", ("1.0",), "0 to below 1"),
    ("improved-meanflow", "generator.improved_mean_flow.power", ("-1.0",), NOT_NEGATIVE),
    ("alpha-flow", "generator.alpha_flow.steepness", ("0.0",), POSITIVES),
    ("integrated-flow", "generator.integrated_flow.teacher_steps", ("0",), COUNTS),
    ("reflow", "generator.reflow.whole_share", ("-0.1",), SHARES),
    ("reflow", "generator.reflow.times.rate", ("0.0", "51.0"), "above 0 to 50"),
    ("reflow", "generator.reflow.simulation.steps", ("0",), COUNTS),
    ("arc", "generator.arc.depth_share", ("0.0", "1.5"), "above 0 to 1"),
    ("arc", "generator.arc.generator_times.one_step_share", ("2.0",), SHARES),
    ("dmd2", "generator.dmd2.fake_steps", ("0",), COUNTS),
    ("dmd2", "generator.dmd2.min_time", ("-0.1",), SHARES),
    ("quantization-aware", "generator.quantization.min_elements", ("-1",), NOT_NEGATIVE),
    ("codec", "codec.batch", ("0",), COUNTS),
    ("codec", "codec.crop_frames", ("0",), COUNTS),
    ("codec", "codec.mel_weight", ("-1.0",), NOT_NEGATIVE),
    ("codec", "codec.coder_edges_hz", ("[8000.0, -1.0]",), POSITIVES),
    ("codec-envelope", "envelope.pool", ("0",), COUNTS),
    ("text-encoder", "text_encoder.misspelt_share", ("1.5",), SHARES),
    ("text-wordings", "text_wordings.rows", ("0",), COUNTS),
    ("tagger", "tagger.development_share", ("1.0",), "0 to below 1"),
    ("tagger", "tagger.augment.mix_probability", ("1.01",), SHARES),
    ("tagger", "tagger.network.dropout", ("1.0",), "0 to below 1"),
    ("tagger", "tagger.network.widths", ("[8, 0]",), COUNTS),
    ("tagger", "tagger.network.mel.hop", ("0",), COUNTS),
]


@pytest.mark.parametrize(
    ("recipe", "key", "value", "allowed"),
    [(recipe, key, value, allowed) for recipe, key, values, allowed in CASES for value in values],
)
def test_a_setting_out_of_range_is_one_line(recipe: str, key: str, value: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe, [f"{key}={value}"])
    message, (table, _, name) = str(caught.value), key.rpartition(".")
    # Settings of windows are checked by the table above them.
    place = f"{table}: {name} " if table != "data.windows" else f"data: windows.{name} "
    assert message.startswith(place), message
    assert message.endswith(f" is out of range: allowed are {allowed}"), message


@pytest.mark.parametrize(
    ("recipe", "overrides", "told"),
    [
        ("tagger", ["tagger.augment.longest_frames=80"], "shortest_frames 80 is not below longest_frames 80"),
        ("dmd2", ["generator.dmd2.min_guidance=9.0"], "min_guidance 9.0 is above max_guidance 5.0"),
        ("dmd2", ["generator.dmd2.min_time=0.99"], "min_time 0.99 is not below max_time 0.98"),
        ("alpha-flow", ["generator.alpha_flow.anneal_end=0"], "anneal_start 0 is not below anneal_end 0"),
        ("reflow", ["generator.reflow.whole_share=0.9"], "add up to 1.15, more than 1"),
        ("arc", ["generator.arc.generator_times.low=3.0"], "low 3.0 is not below high 2.0"),
        ("flow", ["data.windows.min_peak_db=-0.5"], "min_peak_db -0.5 is above windows.max_peak_db -1.0"),
        ("tagger", ["tagger.network.widths=[8]"], "widths [8] are none of a stem and at least one block"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(recipe: str, overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe, overrides)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def dataclasses_in(hint: Any) -> set[Any]:
    """Dataclasses of settings that a type hint leads to."""
    parts = typing.get_args(hint)
    if parts:
        return {found for part in parts for found in dataclasses_in(part)}
    if not dataclasses.is_dataclass(hint):
        return set()
    hints = typing.get_type_hints(hint)
    return {hint, *(found for part in hints.values() for found in dataclasses_in(part))}


NO_LIMIT = {"anneal_start", "anneal_end"}
"""Whole numbers of which every one means something."""
WITHIN_DATA = {"WindowPolicy"}
"""Tables whose ranges the table above them checks."""
SCHEMES = {"Scheme"}
"""Its one number is one of a list."""


def numbers_of(owner: Any) -> list[tuple[str, Any]]:
    """Numeric settings of a dataclass, with the value that none of them may have."""
    found = []
    for name, hint in typing.get_type_hints(owner).items():
        kinds = typing.get_args(hint) if typing.get_origin(hint) is tuple else (hint,)
        if float in kinds:
            found.append((name, math.nan))
        elif int in kinds and name not in NO_LIMIT:
            found.append((name, -1))
    return found


SETTINGS = sorted(dataclasses_in(Recipe), key=lambda owner: str(owner.__name__))


def test_every_dataclass_of_a_recipe_is_looked_at() -> None:
    names = {owner.__name__ for owner in SETTINGS}
    assert {
        "LoopConfig",
        "DataConfig",
        "WindowPolicy",
        "MelSpec",
        "Simulation",
        "Anchoring",
        "MixExp",
    } <= names
    assert len(names) >= 28


@pytest.mark.parametrize(
    ("owner", "name", "wrong"),
    [
        pytest.param(owner, name, wrong, id=f"{owner.__name__}.{name}")
        for owner in SETTINGS
        if owner.__name__ not in WITHIN_DATA | SCHEMES
        for name, wrong in numbers_of(owner)
    ],
)
def test_no_number_of_a_recipe_goes_unchecked(owner: Any, name: str, wrong: Any) -> None:
    """NaN is in no range, and -1 in none of a whole number: a new setting without a range is found here."""
    default = getattr(owner(), name)
    given = (*default[:-1], wrong) if isinstance(default, tuple) and default else wrong
    if isinstance(default, tuple) and not default:
        given = (wrong,)
    with pytest.raises(ConfigError, match=f"^{name} "):
        owner(**{name: given})


def test_no_number_of_windows_goes_unchecked() -> None:
    (windows,) = (owner for owner in SETTINGS if owner.__name__ == "WindowPolicy")
    for name, wrong in numbers_of(windows):
        with pytest.raises(ConfigError, match=name):
            load_recipe("flow", [f"data.windows.{name}={wrong}"])


def test_packaged_recipes_are_within_their_ranges() -> None:
    assert len(list_recipes()) > 20


def test_ranges_hold_and_name_their_ends() -> None:
    assert 0 in SHARE and 1 in SHARE and 1.01 not in SHARE and math.nan not in SHARE
    assert 0 not in POSITIVE and 5e-324 in POSITIVE and math.inf not in POSITIVE
    assert 1.0 not in BELOW_ONE and 0.0 in BELOW_ONE and 10**400 in COUNT
    assert -1e300 in FINITE and -math.inf not in FINITE and math.nan not in FINITE
    told = [SHARE, POSITIVE, BELOW_ONE, COUNT, FINITE, Range(high=3), Range(0.5, 2**31, above_low=True)]
    assert [str(each) for each in told] == [
        "0 to 1",
        "numbers above 0",
        "0 to below 1",
        "numbers from 1",
        "finite numbers",
        "numbers up to 3",
        "above 0.5 to 2147483648",
    ]


def test_pairs_and_tuples_are_checked_alike() -> None:
    @dataclasses.dataclass(frozen=True)
    class Settings:
        rates: tuple[float, ...] = (0.5, 2.0)
        low: int = 3
        high: int = 3

    with pytest.raises(ConfigError, match=r"^rates 2\.0 is out of range: allowed are 0 to 1$"):
        require_ranges(Settings(), rates=(0, 1))
    require_ranges(Settings(), rates=(0, 2), low=COUNT)
    require_rising(Settings(), "low", "high")
    with pytest.raises(ConfigError, match=r"^low 3 is not below high 3$"):
        require_rising(Settings(), "low", "high", strictly=True)
    assert to_dict(Settings())["low"] == 3
