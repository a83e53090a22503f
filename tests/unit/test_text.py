"""Prompts: normalisation, refusals, length policy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tta.errors import BundleError, RequestError
from edge_tta.text import MAX_PROMPT_BYTES, Tokenizer, normalise

MODEL = (Path(__file__).parents[1] / "golden/edge-tiny/tokenizer.model").read_bytes()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_bytes(MODEL, max_tokens=16)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Rain on a TIN roof", "rain on a tin roof"),
        ("  rain \t\n on  roof ", "rain on roof"),
        ("ｒａｉｎ ①", "rain 1"),
        ("cafe\u0301", "café"),
        ("ra\u200bin\u202e", "rain"),
        ("ra\x07in", "rain"),
        ("雨の音", "雨の音"),
        ("rain 🌧", "rain 🌧"),
    ],
)
def test_normalisation(prompt: str, text: str) -> None:
    assert normalise(prompt) == text


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("", "empty"),
        ("   \t\n", "empty"),
        ("\u200b\u200d", "empty"),
        ("🌧🌧🌧", "letter"),
        ("?!…", "letter"),
        ("rain \ud800", "surrogate"),
        ("rain\x00", "NUL"),
        ("a" * (MAX_PROMPT_BYTES + 1), "bytes"),
        ("é" * MAX_PROMPT_BYTES, "bytes"),
        ("a" * 1_000_000, "bytes"),
        (7, "must be text"),
    ],
)
def test_refusals_are_one_clear_line(prompt: str, word: str) -> None:
    with pytest.raises(RequestError, match=word) as caught:
        normalise(prompt)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_ids_end_with_end_of_sentence(tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode("rain")
    assert prompt.ids[-1] == tokenizer.eos_id and prompt.dropped == 0
    assert prompt.ids.dtype == "int64" and prompt.ids.ndim == 1


def test_case_does_not_matter(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("RAIN on a roof").ids.tolist() == tokenizer.encode("rain on a roof").ids.tolist()


@pytest.mark.parametrize("words", [1, 7, 14, 15, 16, 17, 160])
def test_what_does_not_fit_is_counted(tokenizer: Tokenizer, words: int) -> None:
    whole = Tokenizer.from_bytes(MODEL, max_tokens=100_000)
    text = " ".join(["rain"] * words)
    needed = len(whole.encode(text).ids) - 1
    prompt = tokenizer.encode(text)
    assert len(prompt.ids) == min(needed, 15) + 1
    assert prompt.dropped == max(0, needed - 15)


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_is_tokenized_or_refused(text: str) -> None:
    tokenizer = Tokenizer.from_bytes(MODEL, max_tokens=16)
    try:
        prompt = tokenizer.encode(text)
    except RequestError:
        return
    assert 1 < len(prompt.ids) <= 16
    assert prompt.ids.min() >= 0 and prompt.ids.max() < tokenizer.vocab_size


@pytest.mark.parametrize("data", [b"", b"not a model", MODEL[: len(MODEL) // 2]])
def test_damaged_model_is_a_bundle_error(data: bytes) -> None:
    with pytest.raises(BundleError, match="tokenizer"):
        Tokenizer.from_bytes(data, 16).encode("rain")
