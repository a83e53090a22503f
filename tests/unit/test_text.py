"""Prompts: normalisation, refusals, length policy."""

from __future__ import annotations

import io
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tta.bundle import Bundle
from edge_tta.errors import BundleError, RequestError
from edge_tta.text import MAX_PROMPT_BYTES, Tokenizer, normalise

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = (GOLDEN / "edge-tiny/tokenizer.model").read_bytes()
TOKENS = json.loads((GOLDEN / "tokens.json").read_text(encoding="utf-8"))


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
        ("ra\x0bin\x85on\u2028roof", "ra in on roof"),
        ("r\u00adain \u2066on\u2069", "rain on"),
        ("a\u200b\u0301", "á"),
        ("İzmir", "i\u0307zmir"),
        ("ΑΣ ΟΔΟΣ", "ας οδος"),
        ("ﬁre — ½", "fire — 1⁄2"),
        ("مطر", "مطر"),
        ("rain 👩\u200d🚒", "rain 👩🚒"),
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


@given(st.text(max_size=60))
@settings(max_examples=500)
def test_normalising_twice_changes_nothing_more(prompt: str) -> None:
    try:
        text = normalise(prompt)
    except RequestError:
        return
    assert normalise(text) == text
    assert unicodedata.is_normalized("NFKC", text) and text == " ".join(text.split())
    assert not {unicodedata.category(character) for character in text} & {"Cc", "Cf", "Cs"}


@pytest.mark.parametrize("case", TOKENS, ids=lambda case: ascii(case["prompt"])[:40])
def test_golden_tokens(case: dict[str, object]) -> None:
    """Every runtime in every language must find these ids."""
    prompt = Tokenizer.from_bytes(MODEL, max_tokens=16).encode(str(case["prompt"]))
    assert (prompt.text, prompt.ids.tolist(), prompt.dropped) == (case["text"], case["ids"], case["dropped"])


def test_golden_tokens_cover_what_is_hard() -> None:
    prompts = [case["prompt"] for case in TOKENS]
    assert len(set(prompts)) >= 64
    assert any(case["dropped"] for case in TOKENS)
    assert {len(chr(max(map(ord, prompt))).encode()) for prompt in prompts} == {1, 2, 3, 4}


@pytest.mark.parametrize("prompt", ["rain", "雨の音 1", "zebra 🦓 quagga", "</s> rain <unk> <s>", "ᚱᚨᛁᚾ"])
def test_byte_fallback_leaves_nothing_unknown(toy_tokenizer_model: bytes, prompt: str) -> None:
    tokenizer = Tokenizer.from_bytes(toy_tokenizer_model, max_tokens=256)
    encoded = tokenizer.encode(prompt)
    # Control symbols written out by a user are text like any other.
    assert encoded.ids.tolist().count(tokenizer.eos_id) == 1 and encoded.ids[-1] == tokenizer.eos_id
    assert 0 not in encoded.ids
    words = b"".join(
        bytes([int(piece[3:5], 16)]) if piece.startswith("<0x") else piece.encode()
        for piece in (tokenizer.pieces()[index] for index in encoded.ids[:-1])
    )
    assert words.decode().replace("▁", " ").strip() == normalise(prompt)


def test_the_longest_prompts_are_cut(toy_tokenizer_model: bytes) -> None:
    tokenizer = Tokenizer.from_bytes(toy_tokenizer_model, max_tokens=64)
    for prompt in ("a" * 4096, "ﷺ" * 1365, "🌧a" * 819, "a " * 2048):
        encoded = tokenizer.encode(prompt)
        assert len(encoded.ids) == 64 and encoded.dropped > 0


def test_a_model_without_end_of_sentence_is_refused() -> None:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["rain on a tin roof"] * 4), model_writer=model, vocab_size=300,
        hard_vocab_limit=False, byte_fallback=True, eos_id=-1, bos_id=-1, pad_id=-1, minloglevel=2,
    )  # fmt: skip
    with pytest.raises(BundleError, match="end-of-sentence"):
        Tokenizer.from_bytes(model.getvalue(), 16)


def test_ids_end_with_end_of_sentence(tokenizer: Tokenizer) -> None:
    prompt = tokenizer.encode("rain")
    assert prompt.ids[-1] == tokenizer.eos_id and prompt.dropped == 0
    assert prompt.ids.dtype == "int64" and prompt.ids.ndim == 1


@pytest.mark.parametrize(
    ("prompt", "warned"),
    [
        ("rain on a tin roof", False),
        ("café terrace, 5 o'clock", False),
        ("pluie sur un toit", False),
        ("a dog barks 🐕", False),
        ("雨の音", True),
        ("дождь по крыше", True),
        ("雨の音 " * 100, True),
    ],
)
def test_prompts_in_unknown_letters_are_told(prompt: str, warned: bool) -> None:
    bundle = Bundle.open(verify=False)
    words = [
        w
        for w in Tokenizer.from_bytes(bundle.tokenizer_bytes(), 64).encode(prompt).warnings
        if "English" in w
    ]
    assert len(words) == warned


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
