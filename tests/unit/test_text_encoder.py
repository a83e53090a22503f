"""The text encoder against PyTorch's own transformer layer, and its promises about padding and scale."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_data import write_teacher
from torch import Tensor, nn

from edge_tta.config import TextEncoderConfig
from edge_tta.errors import ConfigError
from edge_tta.model.presets import preset
from edge_tta.model.text_encoder import EncoderLayer, TextEncoder
from edge_tta.train.recipes import load_recipe
from edge_tta.train.run import build_stage
from edge_tta.train.stages.text_encoder import TextEncoderStage
from edge_tta.train.text_retrieval import student_encode

SMALL = TextEncoderConfig(vocab_size=50, max_tokens=12, width=24, depth=2, heads=3, feedforward=40)


def small(seed: int = 0) -> TextEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return TextEncoder(SMALL).eval()


def random_ids(*shape: int) -> Tensor:
    return torch.randint(0, SMALL.vocab_size, shape, generator=torch.Generator().manual_seed(1))


def reference_layer(layer: EncoderLayer, width: int, heads: int, feedforward: int) -> nn.Module:
    """PyTorch's post-norm layer with the weights of ours."""
    theirs = nn.TransformerEncoderLayer(
        width, heads, feedforward, dropout=0.0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
    )
    projections = (layer.query, layer.key, layer.value)
    state = {
        "self_attn.in_proj_weight": torch.cat([part.weight for part in projections]),
        "self_attn.in_proj_bias": torch.cat([part.bias for part in projections]),
    }
    names = {
        "self_attn.out_proj": layer.attention_out,
        "norm1": layer.attention_norm,
        "linear1": layer.expand,
        "linear2": layer.project,
        "norm2": layer.norm,
    }
    for name, part in names.items():
        state |= {f"{name}.weight": part.weight, f"{name}.bias": part.bias}
    theirs.load_state_dict(state)
    # In training mode PyTorch does not take its fused path; without dropout the numbers are the same.
    return theirs.train()


def test_parameters_of_the_shipped_shape() -> None:
    with torch.device("meta"):
        encoder = TextEncoder(preset("edge-10m").text_encoder)
    count = sum(weight.numel() for weight in encoder.parameters())
    layer = 4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 4 * 384
    assert count == (8192 + 64) * 384 + 2 * 384 + 4 * layer == 10_268_928
    assert count <= 13_000_000


@pytest.mark.parametrize("explicit", [False, True])
def test_layer_is_the_post_norm_layer_of_pytorch(explicit: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layer = EncoderLayer(24, 3, 40)
        for weight in layer.parameters():
            nn.init.normal_(weight, std=0.3)
        x = torch.randn(4, 7, 24)
    mask = torch.arange(7)[None] < torch.tensor([7, 3, 1, 5])[:, None]
    bias = torch.zeros(4, 7).masked_fill(~mask, -1e4)[:, None, None]
    theirs = reference_layer(layer, 24, 3, 40)
    torch.testing.assert_close(layer(x, None, explicit), theirs(x), atol=2e-5, rtol=1e-4)
    ours = layer(x, bias, explicit)
    wanted = theirs(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(ours[mask], wanted[mask], atol=2e-5, rtol=1e-4)


def test_attention_written_out_is_the_same_function() -> None:
    encoder, ids = small(), random_ids(3, 9)
    mask = torch.arange(9)[None] < torch.tensor([9, 4, 1])[:, None]
    fused = encoder(ids, mask)
    encoder.explicit_attention = True
    written = encoder(ids, mask)
    torch.testing.assert_close(fused[0][mask], written[0][mask], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fused[1], written[1], atol=1e-5, rtol=1e-4)


def test_padding_changes_nothing() -> None:
    encoder, ids = small(), random_ids(4, 12)
    lengths = [12, 1, 5, 8]
    mask = torch.arange(12)[None] < torch.tensor(lengths)[:, None]
    tokens, pooled = encoder(ids, mask)
    other_tokens, other_pooled = encoder(ids.masked_fill(~mask, 7), mask)
    for row, length in enumerate(lengths):
        alone_tokens, alone_pooled = encoder(ids[row : row + 1, :length])
        torch.testing.assert_close(tokens[row, :length], alone_tokens[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(pooled[row], alone_pooled[0], atol=1e-5, rtol=1e-4)
        assert torch.equal(tokens[row, :length], other_tokens[row, :length])
    assert torch.equal(pooled, other_pooled)


def test_features_have_about_unit_variance() -> None:
    tokens, pooled = small()(random_ids(8, 10))
    assert tokens.shape == (8, 10, 24) and pooled.shape == (8, 24)
    # LayerNorm's gain is 1 and its shift 0 in a new encoder: exactly unit variance per token.
    torch.testing.assert_close(tokens.var(-1, unbiased=False), torch.ones(8, 10), atol=1e-4, rtol=0)
    torch.testing.assert_close(pooled.square().mean(-1), torch.ones(8), atol=1e-4, rtol=0)
    mean = tokens.mean(1)
    assert torch.nn.functional.cosine_similarity(pooled, mean).min() > 0.9999


def test_order_of_words_matters() -> None:
    encoder, ids = small(), torch.tensor([[3, 4, 5, 6]])
    assert (encoder(ids)[1] - encoder(ids.flip(1))[1]).abs().max() > 1e-3


def test_every_weight_learns() -> None:
    encoder = small().train()
    tokens, pooled = encoder(random_ids(4, 12), torch.ones(4, 12, dtype=torch.bool))
    direction = torch.randn(24, generator=torch.Generator().manual_seed(0))
    ((pooled @ direction) + (tokens[:, 0] @ direction)).square().sum().backward()
    for name, weight in encoder.named_parameters():
        if not name.endswith("key.bias"):  # softmax does not see what is added to all keys
            assert weight.grad is not None and weight.grad.abs().max() > 0, name


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="5 heads do not divide a width of 24"):
        TextEncoder(dataclasses.replace(SMALL, heads=5))


def test_labels_are_ranked_on_the_device_of_the_encoder() -> None:
    encode = student_encode(TextEncoder(SMALL).eval().to("meta"), Bytes())  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="meta tensor"):
        encode(["rain", "a dog"])


class Bytes:
    """A tokenizer of the smallest kind."""

    def encode(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(
            ids=np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) % SMALL.vocab_size
        )


def stage_on(folder: Path, *labels: str) -> TextEncoderStage:
    """The stage of the packaged recipe on a grammar of these labels."""
    words = 'kind = "event"\nsettings = "none"\nevents = ["a {0} ringing"]\nnouns = ["{0}"]\n'
    tables = "".join(f"[labels.{label}]\n{words.format(label)}" for label in labels)
    (folder / "own.toml").write_text(tables or "[labels]\n")
    settings = [
        "preset=edge-tiny", f"data.cache={folder / 'cache'}", f"data.captions={folder / 'own.toml'}",
        f"text_encoder.teacher={folder / 'teacher'}", "text_encoder.layers=[1]", "text_encoder.phrases=0",
        "text_encoder.captions_per_label=20", "text_encoder.joined_captions=20", "text_encoder.batch=4",
    ]  # fmt: skip
    stage = build_stage(load_recipe("text-encoder", settings), preset("edge-tiny"), lambda *_: None)
    assert isinstance(stage, TextEncoderStage)
    return stage


def test_the_student_reads_captions_of_the_grammar_that_is_given(tmp_path: Path) -> None:
    write_teacher(tmp_path / "teacher")
    stage = stage_on(tmp_path, "gong", "chime")
    assert all("gong" in text.lower() or "chime" in text.lower() for text in stage.texts)
    assert any("gong" in text.lower() and "chime" in text.lower() for text in stage.texts)
    ids, mask, target = stage.batch(0)
    assert ids.shape == mask.shape and len(target) == 4
    # None of the suite's prompts is for such a label.
    (figure,) = stage.validate().items()
    assert figure[0] == "cosine" and -1 <= figure[1] <= 1
    # A label alone is joined with nothing.
    assert all("gong" in text.lower() for text in stage_on(tmp_path, "gong").texts)
    assert "student_top1" in stage_on(tmp_path, "rain", "gong").validate()
    with pytest.raises(ConfigError, match=r"the grammar of data\.captions has no labels"):
        stage_on(tmp_path)
