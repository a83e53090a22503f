"""Training the tokenizer: the same bytes every time, everyday words whole, nothing outside its reach."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from edge_tta.errors import ConfigError, RequestError
from edge_tta.text import Tokenizer, normalise
from edge_tta.train.data.captions import Captioner
from edge_tta.train.tokenizer import train_tokenizer

WORDS = ["thunder", "umbrella", "carburettor", "zeppelin", "xylophone", "quicksand"]


@pytest.fixture(scope="module")
def captions() -> list[str]:
    captioner, rng = Captioner.from_package(), default_rng(0)
    return [captioner.caption(label, rng) for label in sorted(captioner.labels) for _ in range(12)]


@pytest.fixture(scope="module")
def model(captions: list[str]) -> bytes:
    return train_tokenizer(captions, 1200, WORDS * 20)


def test_training_is_deterministic(captions: list[str], model: bytes) -> None:
    assert train_tokenizer(captions, 1200, WORDS * 20) == model


def test_layout_of_the_ids(model: bytes) -> None:
    pieces = Tokenizer(model, 64).pieces()
    assert pieces[:2] == ["<unk>", "</s>"]
    assert pieces[2:258] == [f"<0x{byte:02X}>" for byte in range(256)]
    assert 258 < len(pieces) <= 1200
    assert len(set(pieces)) == len(pieces)


def test_given_words_and_frequent_words_are_single_pieces(model: bytes) -> None:
    pieces = set(Tokenizer(model, 64).pieces())
    for word in [*WORDS, "dog", "rain", "sound"]:
        assert f"\u2581{word}" in pieces, word


def test_captions_are_short(captions: list[str], model: bytes) -> None:
    tokenizer = Tokenizer(model, 64)
    lengths = [len(tokenizer.encode(text).ids) / len(text.split()) for text in captions]
    assert sum(lengths) / len(lengths) < 2.2


def test_case_and_width_of_letters_do_not_matter(captions: list[str]) -> None:
    shouted = [text.upper().replace("A", "\uff21") for text in captions[:900]]
    assert train_tokenizer(shouted, 600) == train_tokenizer(captions[:900], 600)


@settings(max_examples=200, deadline=None)
@given(text=st.text(min_size=1, max_size=12))
def test_nothing_is_unknown(model: bytes, text: str) -> None:
    """Byte fallback: any prompt that is a prompt at all is spelt out, and back again."""
    tokenizer = Tokenizer(model, 4096)
    try:
        encoded = tokenizer.encode(text)
    except RequestError:
        return
    assert 0 not in encoded.ids and encoded.dropped == 0 and encoded.ids[-1] == 1
    spelt = b"".join(
        bytes([int(piece[3:5], 16)]) if piece.startswith("<0x") else piece.encode()
        for piece in (tokenizer.pieces()[index] for index in encoded.ids[:-1])
    ).decode()
    assert spelt == "\u2581" + normalise(text).replace(" ", "\u2581")


def test_small_corpora_give_fewer_pieces() -> None:
    tokenizer = Tokenizer(train_tokenizer(["rain on a roof", "a dog barking", "wind"] * 5, 8192), 16)
    assert 258 < tokenizer.vocab_size < 400


def test_a_vocabulary_without_room_for_the_letters_is_refused(captions: list[str]) -> None:
    with pytest.raises(ConfigError, match="do not give 260 pieces"):
        train_tokenizer(captions, 260)
