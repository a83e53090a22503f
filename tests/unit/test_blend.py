"""Weights between those of two models: weight by weight, of equal shapes and one codec, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edge_tta.errors import ConfigError
from edge_tta.model.checkpoint import load_part, read_note, save_part
from edge_tta.model.generator import Generator
from edge_tta.model.presets import preset
from edge_tta.train.blend import blend, main
from edge_tta.train.couple_data import CODEC

TINY = preset("edge-tiny")


def write(folder: Path, seed: int, codec: str | None = "a" * 64) -> Generator:
    """A checkpoint with a random generator."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = Generator(TINY.generator)
        for weight in made.parameters():
            weight.data.normal_()
    save_part(folder, TINY, "generator", made, None if codec is None else (CODEC, codec))
    return made


def test_every_weight_lies_at_the_share_between_both(tmp_path: Path) -> None:
    write(tmp_path / "a", 1)
    write(tmp_path / "b", 2)
    main([str(tmp_path / "a"), str(tmp_path / "b"), "0.25", str(tmp_path / "c")])
    first, second, made = (load_part(tmp_path / name, TINY, "generator").state_dict() for name in "abc")
    for name, value in made.items():
        expected = 0.75 * first[name] + 0.25 * second[name]
        torch.testing.assert_close(value, expected, rtol=2**-8, atol=1e-6, msg=name)
    assert any(not torch.equal(made[name], first[name]) for name in made)
    assert read_note(tmp_path / "c", "generator", CODEC) == "a" * 64


@pytest.mark.parametrize(("share", "same"), [("0", "a"), ("1", "b")])
def test_the_ends_are_the_models_themselves_and_the_target_may_be_one_of_them(
    tmp_path: Path, share: str, same: str
) -> None:
    write(tmp_path / "a", 1, None)
    write(tmp_path / "b", 2, None)
    expected = (tmp_path / same / "generator.safetensors").read_bytes()
    main([str(tmp_path / "a"), str(tmp_path / "b"), share, str(tmp_path / "a")])
    assert (tmp_path / "a" / "generator.safetensors").read_bytes() == expected
    assert read_note(tmp_path / "a", "generator", CODEC) is None


def test_what_cannot_be_averaged_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "a", 1)
    write(tmp_path / "b", 2, "b" * 64)
    before = sorted(tmp_path.rglob("*"))

    def refused(*arguments: object) -> str:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        assert sorted(tmp_path.rglob("*")) == before
        return str(caught.value)

    a, b, c = (tmp_path / name for name in "abc")
    assert "latents of different codecs" in refused(a, b, 0.5, c)
    assert "the share of the second model is 1.5; give 0 to 1" in refused(a, a, 1.5, c)
    assert "the share of the second model is nan; give 0 to 1" in refused(a, a, "nan", c)
    assert "part 'decoder' is unknown; use text_encoder, generator, codec" in refused(a, a, 0.5, c, "decoder")
    assert refused(a, c, 0.5, b).startswith("blend: ")
    for few in ((a, b, "half", c), (a, b, 0.5), (a, b, 0.5, c, "codec", "more")):
        assert refused(*few).startswith("usage: ")
    with pytest.raises(ConfigError, match="different shapes"):
        blend(nn.Linear(2, 3), nn.Linear(3, 2), 0.5)
