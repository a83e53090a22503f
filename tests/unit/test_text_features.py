"""Features of the compact text encoder are kept on disk and never computed twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_tta.model.text_encoder import TextEncoder
from edge_tta.train.text_conditioner import CompactText
from export.tiny import tiny_checkpoint

TEXTS = ("rain on a roof", "a dog", "thunder", "a dog barks at the door")


def compact(cache: Path | None, nudge: float = 0.0) -> CompactText:
    tiny = tiny_checkpoint()
    assert isinstance(tiny.text_encoder, TextEncoder) and tiny.tokenizer is not None
    with torch.no_grad():
        tiny.text_encoder.positions += nudge
    return CompactText(tiny.text_encoder, tiny.tokenizer, cache)


def test_what_was_computed_once_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, first = compact(None).encode(TEXTS), compact(tmp_path).encode(TEXTS)
    again = compact(tmp_path)
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(again.encoder, "forward", lambda *_: pytest.fail("computed again"))
    found = again.encode(reversed(TEXTS), lambda *news: told.append(news))
    assert told == []
    for text in TEXTS:
        for features in (plain[text], first[text]):
            assert np.array_equal(found[text].tokens, features.tokens)
            assert np.array_equal(found[text].pooled, features.pooled)


def test_other_weights_have_other_features(tmp_path: Path) -> None:
    first, other = compact(tmp_path).encode(TEXTS), compact(tmp_path, nudge=0.5)
    assert not np.array_equal(other.encode(TEXTS)["a dog"].pooled, first["a dog"].pooled)
    assert len(list(tmp_path.iterdir())) == 2
