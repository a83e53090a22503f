"""The comparison of codecs: every variant is a codec of the size it says; a study runs, goes on and is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_data import write_clips

from benchmarks.codecs.costs import measure_costs
from benchmarks.codecs.direct import DirectHead
from benchmarks.codecs.report import write_report
from benchmarks.codecs.study import OUTCOME, Order, run_study
from benchmarks.codecs.variants import Variant, variants
from edge_tta.errors import DataError, TrainingError
from edge_tta.evaluate.clips import read_clips
from edge_tta.evaluate.tagger import TaggerConfig, build_network, save_tagger
from edge_tta.model.codec import Codec
from edge_tta.model.presets import preset
from edge_tta.train.loop import Trainer


@pytest.mark.parametrize("variant", variants(), ids=lambda variant: variant.name)
def test_a_variant_is_a_codec_of_its_rate(variant: Variant) -> None:
    audio = variant.model.audio
    codec = Codec(variant.model.codec, audio)
    latent = codec.encode(torch.zeros(1, 1, 4 * audio.hop))
    assert latent.shape == (1, 4, audio.latent_channels) and codec.decode(latent).shape == (
        1,
        1,
        4 * audio.hop,
    )
    assert variant.latents_per_second == pytest.approx(44100 / audio.hop)
    assert variant.model.generator.latent_channels == audio.latent_channels


def test_a_direct_head_gives_samples_and_learns_with_its_trunk() -> None:
    tiny = preset("edge-tiny")
    codec = Codec(tiny.codec, tiny.audio)
    codec.direct = head = DirectHead(codec.decoder)
    made = head(torch.randn(2, 3, 4))
    assert made.shape == (2, 1, 3 * 128)
    made.square().sum().backward()
    assert all(p.grad is not None for p in (head.samples.weight, codec.decoder.up.weight))
    # Its parameters are the codec's, once, so that one optimiser and one average hold them.
    names = [name for name, _ in codec.named_parameters()]
    assert names.count("direct.samples.weight") == 1 and len({*names}) == len(names)


@pytest.fixture
def order(tmp_path: Path) -> Order:
    write_clips(tmp_path / "clips")
    labels = tuple(sorted({clip.label for clip in read_clips(tmp_path / "clips", ("train", "val"))}))
    config = TaggerConfig(widths=(4, 6, 8), embedding=12)
    (tmp_path / "tagger").mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_tagger(build_network(len(labels), config), labels, config, tmp_path / "tagger")
    return Order(
        tmp_path / "clips", tmp_path / "cache", tmp_path / "tagger", tmp_path / "work", 2, precision="fp32"
    )


def test_a_study_trains_judges_and_is_written(order: Order, tmp_path: Path) -> None:
    tiny = preset("edge-tiny")
    chosen = Variant("small", "tiny spectrum", tiny), Variant("plain", "tiny samples", tiny, "direct")
    told: list[str] = []
    outcomes = run_study(order, chosen, told.append)
    assert [outcome.name for outcome in outcomes] == ["small", "plain"] and len(told) == 2
    assert outcomes[0].figures.log_mel.value != outcomes[1].figures.log_mel.value
    # What is judged is not judged again, and a damaged outcome is said to be one.
    assert run_study(order, chosen, told.append) == outcomes
    costs = measure_costs(chosen, "edge-tiny")
    assert (costs[0].decoder_ratio, costs[0].generator_ratio) == (1.0, 1.0) and costs[1].decoder_ms > 0
    paths = write_report(outcomes, costs, 1, tmp_path / "report" / "comparison.md")
    text = paths[0].read_text()
    assert "tiny spectrum" in text and "2 steps" in text and "344.5 × 4" in text
    assert [entry["costs"]["name"] for entry in json.loads(paths[1].read_text())] == ["small", "plain"]
    (order.work / "small" / OUTCOME).write_text("{}")
    with pytest.raises(DataError, match="no outcome of this study"):
        run_study(order, chosen, told.append)


def test_a_training_that_was_stopped_is_not_judged(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "train", lambda self: setattr(self, "stopped", True))
    with pytest.raises(TrainingError, match="small: stopped at step 0"):
        run_study(order, [Variant("small", "tiny", preset("edge-tiny"))], lambda _: None)
