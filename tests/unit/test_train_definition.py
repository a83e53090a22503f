"""Which settings a run may be taken up again with, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_tta.errors import TrainingError
from edge_tta.train.definition import PLACES, WATCHED, Definition
from edge_tta.train.recipes import load_recipe

RUN = Path("runs/flow")


def stored(recipe: str, *overrides: str) -> dict[str, Any]:
    """What a checkpoint keeps, as it is read from its file."""
    plain: dict[str, Any] = json.loads(
        json.dumps(Definition(load_recipe(recipe, [*overrides]).settings()).plain())
    )
    return plain


def resume(before: dict[str, Any], recipe: str, *overrides: str) -> str:
    return Definition(load_recipe(recipe, [*overrides]).settings()).require_settings(before, RUN)


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "loop.log_every=7",
        "loop.checkpoint_every=7",
        "loop.validate_every=7",
        "loop.device=cpu",
        "loop.divergence_factor=20.0",
        "generator.compile=true",
        'generator.sample_prompts=["rain"]',
        "generator.sample_seconds=2.0",
        "generator.start=moved",
        "generator.teacher=moved",
        "generator.codec=moved",
        "data.folder=moved",
        "data.cache=moved",
        "data.latents=moved",
        "checkpoint=moved",
    ],
)
def test_what_changes_nothing_that_is_learnt_may_change(override: str) -> None:
    told = resume(stored("integrated-flow"), "integrated-flow", override)
    assert told.startswith(f"{override.partition('=')[0]} ") and "(was " in told


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("loop.learning_rate=2e-3", "loop.learning_rate 0.002 (was 0.001)"),
        ("loop.accumulate=2", "loop.accumulate 2 (was 1)"),
        ("loop.precision=bf16", 'loop.precision "bf16" (was "fp32")'),
        ("generator.frames=100", "generator.frames 100 (was 2000)"),
        ("generator.dropout=0.1", "generator.dropout 0.1 (was 0.0)"),
        ("data.num_windows=20", "data.num_windows 20 (was 10000)"),
        ("data.windows.mixture_share=0.5", "data.windows.mixture_share 0.5 (was 0.15)"),
        ("generator.integrated_flow.teacher_steps=4", "generator.integrated_flow.teacher_steps 4 (was 8)"),
        # Younger than some runs: a checkpoint has them only where they change something.
        ("data.own_caption_share=1.0", "data.own_caption_share 1.0 (was not given)"),
        ("generator.text.noise=0.5", "generator.text.noise 0.5 (was 0.3)"),
        ("generator.public_text.t5=folder", "generator.public_text.max_tokens 77 (was not given)"),
        ("preset=edge-2m", 'preset "edge-2m" (was "edge-10m")'),
    ],
)
def test_what_changes_what_is_learnt_is_refused_with_both_values(override: str, told: str) -> None:
    with pytest.raises(TrainingError) as caught:
        resume(stored("integrated-flow"), "integrated-flow", override, "loop.log_every=7")
    message = str(caught.value)
    assert message.startswith(f"{RUN} was trained with other settings: ") and told in message
    assert "log_every" not in message and "choose another --output" in message


def test_more_steps_need_a_learning_rate_that_does_not_follow_them() -> None:
    with pytest.raises(
        TrainingError, match=r"loop\.steps 9000 \(was 2400\); the learning rate follows loop\.steps"
    ):
        resume(stored("integrated-flow"), "integrated-flow", "loop.steps=9000")
    resume(stored("dmd2"), "dmd2", "loop.steps=9000")
    with pytest.raises(TrainingError, match=r"loop\.final_learning_rate 1\.0 \(was 0\.03\);"):
        resume(
            stored("integrated-flow"), "integrated-flow", "loop.steps=9000", "loop.final_learning_rate=1.0"
        )


def test_a_recipe_of_another_stage_is_not_told_key_by_key() -> None:
    with pytest.raises(TrainingError) as caught:
        resume(stored("codec"), "flow")
    assert " more; the learning rate" in str(caught.value) and len(str(caught.value)) < 600


def test_a_checkpoint_of_an_earlier_release_is_taken_up_by_the_same_recipe_alone() -> None:
    """It has the digest and no settings."""
    old = {"digest": load_recipe("flow").digest()}
    assert resume(old, "flow") == ""
    with pytest.raises(TrainingError, match="belongs to another recipe"):
        resume(old, "flow", "loop.log_every=7")


def test_settings_that_a_younger_release_adds_are_those_of_the_checkpoint_at_their_defaults() -> None:
    before = stored("flow")
    del before["digest"]
    assert "sample_seconds" not in before["settings"]["generator"]
    assert "own_caption_share" not in before["settings"]["data"]
    resume(before, "flow")
    resume(before, "flow", "generator.sample_seconds=2.0")


def test_what_is_learnt_from_may_move_and_not_change(tmp_path: Path) -> None:
    before = Definition({}, {"teacher": "a" * 64, "data": "b" * 64}).plain()
    Definition({}, {"teacher": "a" * 64, "data": "b" * 64}).require_origin(before, RUN)
    # Brought by an earlier release, which did not say.
    Definition({}, {"teacher": "a" * 64}).require_origin(before, RUN)
    Definition({}, {"teacher": "c" * 64}).require_origin({}, RUN)
    with pytest.raises(
        TrainingError, match=r"another teacher so far \(aaaaaaaaaaaa, this is cccccccccccc\);"
    ):
        Definition({}, {"teacher": "c" * 64}).require_origin(before, RUN)
    with pytest.raises(TrainingError, match=r"another teacher so far \(aaaaaaaaaaaa, this is none\);"):
        Definition({}, {"teacher": ""}).require_origin(before, RUN)


def test_every_setting_that_may_change_is_one() -> None:
    """A name that is renamed in its dataclass would be refused silently."""
    import dataclasses
    import typing

    from edge_tta.train.recipes import Recipe

    for name in (*WATCHED, *PLACES):
        owner: Any = Recipe
        for part in name.split("."):
            hints = typing.get_type_hints(owner)
            assert part in hints, name
            choices = typing.get_args(hints[part]) or (hints[part],)
            owner = next((each for each in choices if dataclasses.is_dataclass(each)), None)
