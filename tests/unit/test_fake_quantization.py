"""Networks that imitate quantization compute what ONNX Runtime computes with the file, and learn through it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from edge_tta.errors import ConfigError
from edge_tta.model.fake_quantization import FakeQuantizedLinear, fake_quantize, straight_through
from edge_tta.model.generator import Generator
from edge_tta.model.integers import quantize_weight, quantized_activations
from edge_tta.model.scheme import LayerRule, Scheme, StageScheme
from edge_tta.runtime.golden import signal_to_noise_db
from edge_tta.train.recipes import load_recipe as load_training_recipe
from export.tiny import tiny_checkpoint
from export.to_onnx import export_onnx
from export.wrappers import ModelParts, stage_graphs
from quantization.calibration import open_session, run_stage
from quantization.onnx_stage import quantize_onnx
from quantization.recipe import QuantizationRecipe, load_recipe

SCHEMES = (
    Scheme("int8", "dynamic", reduce_range=True),
    Scheme("int8", "dynamic"),
    Scheme("int4", "dynamic", "block", 16),
    Scheme("int4", "float", "block", 32),
    Scheme("int8", "dynamic", "block", 16),
)
PROTECTED = tuple(
    LayerRule(pattern, "as in the packaged recipes")
    for pattern in ("*_in.*", "*modulation*", "generator.audio_out.*")
)


@pytest.fixture(scope="module")
def exported() -> tuple[Generator, bytes, tuple[torch.Tensor, ...]]:
    """A tiny generator, its float file, and inputs for both: latent, time, duration, text, seconds, guidance."""
    tiny = tiny_checkpoint()
    assert tiny.text_encoder is not None and tiny.generator is not None and tiny.codec is not None
    parts = ModelParts(tiny.config, tiny.text_encoder, tiny.generator, tiny.codec.decoder)
    stage = stage_graphs(parts)["generator"]
    return tiny.generator, export_onnx(stage), stage.inputs


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_the_network_computes_what_the_quantized_file_computes(
    exported: tuple[Generator, bytes, tuple[torch.Tensor, ...]], scheme: Scheme
) -> None:
    generator, model, tensors = exported
    settings = StageScheme(scheme, 64, PROTECTED)
    session = open_session(
        quantize_onnx("generator", model, QuantizationRecipe("test", "onnx", generator=settings))
    )
    names = ("latent", "time", "duration", "tokens", "pooled", "seconds", "guidance")
    given = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True)}
    in_file = run_stage(session, given)[0]
    imitation = copy.deepcopy(generator)
    made = fake_quantize(imitation, settings, "generator")
    with torch.no_grad():
        plain, imitated = generator(*tensors).numpy(), imitation(*tensors).numpy()
    assert len(made) == 9 and set(made.values()) == {scheme}
    error, distance = signal_to_noise_db(plain, in_file), signal_to_noise_db(in_file, imitated)
    # A rounding decided otherwise by the last bit of a sum would cost some of this, never most of it. Sums in float32
    # agree to about 90 dB, however fine the quantization.
    assert distance > min(error + 40, 85), (distance, error)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_gradients_are_those_of_the_rounded_network(scheme: Scheme) -> None:
    linear = nn.Linear(40, 24)
    imitation = FakeQuantizedLinear(linear, scheme)
    assert imitation.weight is linear.weight and imitation.bias is linear.bias
    assert imitation.state_dict().keys() == linear.state_dict().keys()
    x = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(1), requires_grad=True)
    slope = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(2))
    (imitation(x) * slope).sum().backward()
    assert x.grad is not None and linear.weight.grad is not None
    rounded = quantize_weight(linear.weight, scheme).dequantized()
    torch.testing.assert_close(x.grad, slope @ rounded)
    assert not torch.equal(rounded, linear.weight)
    # Weights learn from the inputs as they were rounded.
    seen = x.detach() if scheme.activations == "float" else quantized_activations(x, scheme)
    torch.testing.assert_close(linear.weight.grad, torch.einsum("blo,bli->oi", slope, seen))


def test_straight_through_is_exact() -> None:
    value = torch.tensor([0.1, 1e6, -3.7], requires_grad=True)
    rounded = torch.tensor([0.3, 1e-6, -4.0])
    through = straight_through(value, rounded)
    assert torch.equal(through, rounded)
    through.sum().backward()
    assert torch.equal(value.grad, torch.ones(3))


def test_ranges_belong_to_an_example_not_to_a_batch() -> None:
    layer = FakeQuantizedLinear(nn.Linear(16, 4), SCHEMES[0])
    quiet, loud = torch.randn(1, 3, 16), 100 * torch.randn(1, 3, 16)
    with torch.no_grad():
        together = layer(torch.cat([quiet, loud]))
        torch.testing.assert_close(together[:1], layer(quiet))


def test_what_cannot_be_imitated_is_refused() -> None:
    network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    for settings, message in (
        (StageScheme(Scheme("int8", "static"), 1), "imitates no layer with int8 per channel, static"),
        (StageScheme(Scheme("int8", "dynamic", "tensor"), 1), "no integers are defined"),
        (StageScheme(SCHEMES[0], 100), "no Linear of the decoder would be quantized"),
        (StageScheme(SCHEMES[0], 1, (LayerRule("decoder.2.*", "typo"),)), "matches no Linear"),
    ):
        with pytest.raises(ConfigError, match=message):
            fake_quantize(copy.deepcopy(network), settings, "decoder")


def test_rules_choose_the_same_layers_in_the_network_and_in_the_file() -> None:
    """The table of the training recipe is the generator's table of the recipe that its result is made for."""
    trained = load_training_recipe("quantization-aware").generator
    assert trained is not None
    assert trained.quantization == load_recipe("onnx-int4").generator
