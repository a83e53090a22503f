"""The generator's contract: sizes, warm starts, masks, lengths."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edge_tta.model.checkpoint import build_module
from edge_tta.model.generator import Generator
from edge_tta.model.layers import Dropout, TimeConv, seeded_dropout
from edge_tta.model.presets import PRESETS, preset

CONFIG = preset("edge-tiny").generator


@pytest.fixture
def model() -> Generator:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = Generator(CONFIG).eval()
        for weight in (generator.audio_out.linear.weight, generator.shared_modulation.weight):  # type: ignore[union-attr]
            nn.init.normal_(weight, std=0.2)
    return generator


def inputs(count: int = 2, length: int = 6, tokens: int = 4) -> list[torch.Tensor]:
    make = torch.Generator().manual_seed(3)
    return [
        torch.randn(count, length, CONFIG.latent_channels, generator=make),
        torch.full((count,), 0.7),
        torch.full((count,), 0.0),
        torch.randn(count, tokens, CONFIG.text_width, generator=make),
        torch.randn(count, CONFIG.text_width, generator=make),
        torch.full((count,), 3.0),
        torch.full((count,), 1.0),
    ]


@pytest.mark.parametrize(
    ("name", "millions", "tolerance"),
    [
        ("edge-tiny", 0.02, 0.9),
        ("edge-2m", 2.39, 0.02),
        ("edge-10m", 10.95, 0.02),
        ("edge-30m", 30.5, 0.02),
        ("edge-120m", 120.0, 0.02),
        ("edge-120m-stacked", 120.0, 0.02),
    ],
)
def test_parameter_counts_of_the_generators(name: str, millions: float, tolerance: float) -> None:
    with torch.device("meta"):
        generator = build_module("generator", PRESETS[name])
    count = sum(weight.numel() for weight in generator.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=tolerance)


def test_text_encoder_and_decoder_stay_small() -> None:
    with torch.device("meta"):
        encoder = build_module("text_encoder", PRESETS["edge-10m"])
    assert sum(weight.numel() for weight in encoder.parameters()) <= 13e6
    decoder = build_module("codec", PRESETS["edge-10m"]).decoder
    assert sum(weight.numel() for weight in decoder.parameters()) <= 15e6


def test_an_untrained_generator_predicts_zero() -> None:
    assert not Generator(CONFIG)(*inputs()).any()


def test_duration_and_guidance_change_nothing_before_they_are_trained(model: Generator) -> None:
    """A flow-matching checkpoint is a MeanFlow model at its start, exactly."""
    base, moved = inputs(), inputs()
    moved[2] = torch.full((2,), 0.7)
    moved[6] = torch.full((2,), 4.0)
    assert torch.equal(model(*base), model(*moved))


def test_padding_text_is_invisible(model: Generator) -> None:
    short = inputs()
    padded = inputs()
    padded[3] = torch.cat([short[3], 100 * torch.ones(2, 3, CONFIG.text_width)], dim=1)
    mask = torch.tensor([[True] * 4 + [False] * 3] * 2)
    torch.testing.assert_close(model(*padded, text_mask=mask), model(*short), atol=1e-5, rtol=1e-4)


def test_a_dropped_row_sees_nothing_of_its_text(model: Generator) -> None:
    with torch.no_grad():
        model.null_tokens.fill_(0.3)
        model.null_pooled.fill_(-0.2)
    one, other = inputs(), inputs()
    other[3], other[4] = -other[3], -other[4]
    drop = torch.tensor([True, False])
    first, second = model(*one, drop=drop), model(*other, drop=drop)
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[1], second[1])


def test_rows_of_a_batch_do_not_touch(model: Generator) -> None:
    both = inputs(count=3)
    alone = [part[1:2] for part in both]
    torch.testing.assert_close(model(*both)[1:2], model(*alone), atol=1e-5, rtol=1e-4)


def test_written_out_attention_equals_fused(model: Generator) -> None:
    fused = model(*inputs())
    model.explicit_attention = True
    torch.testing.assert_close(model(*inputs()), fused, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 37])
def test_every_length_runs(model: Generator, length: int) -> None:
    assert model(*inputs(length=length)).shape == (2, length, CONFIG.latent_channels)


def test_shifted_copies_and_linear_are_a_convolution() -> None:
    conv = nn.Conv1d(3, 5, 3, padding=1)
    ours = TimeConv(3, 5, 3)
    with torch.no_grad():
        ours.linear.weight.copy_(conv.weight.permute(0, 2, 1).reshape(5, -1))
        ours.linear.bias.copy_(conv.bias)  # type: ignore[arg-type]
    x = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), conv(x.transpose(1, 2)).transpose(1, 2), atol=1e-6, rtol=1e-5)


def test_dropout_is_a_function_of_its_source_and_gone_afterwards(model: Generator) -> None:
    given = inputs()
    plain, before = model(*given), torch.get_rng_state()

    def dropped(seed: int) -> torch.Tensor:
        draws = torch.Generator().manual_seed(seed)
        with seeded_dropout(model, 0.5, draws):
            found: torch.Tensor = model(*given)
        assert torch.rand((), generator=draws) != torch.rand(
            (), generator=torch.Generator().manual_seed(seed)
        )
        return found

    first, other = dropped(1), dropped(2)
    assert torch.equal(first, dropped(1)) and not torch.equal(first, other)
    assert not torch.equal(first, plain) and torch.equal(model(*given), plain)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_ends_with_an_error_too(model: Generator) -> None:
    with pytest.raises(RuntimeError), seeded_dropout(model, 0.5, torch.Generator()):
        raise RuntimeError
    assert not any(module.rate for module in model.modules() if isinstance(module, Dropout))


def test_dropout_leaves_out_the_share_asked_for_and_keeps_the_mean() -> None:
    layer = Dropout()
    with seeded_dropout(layer, 0.25, torch.Generator().manual_seed(0)):
        found = layer(torch.ones(200, 200))
    assert float((found == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(found.unique(), torch.tensor([0.0, 1 / 0.75]))


def test_dropout_reaches_every_branch(model: Generator) -> None:
    # Whole branches left out are no network: what is left is the way past all blocks.
    layers = [module for module in model.modules() if isinstance(module, Dropout)]
    assert len(layers) == CONFIG.joint_blocks + CONFIG.audio_blocks
    given, seen = inputs(), []
    for layer in layers:
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with seeded_dropout(model, 0.5, torch.Generator().manual_seed(0)):
        model(*given)
    assert len(seen) == 2 * len(layers)
    assert all(0.2 < float((output == 0).float().mean()) < 0.8 for output in seen)
