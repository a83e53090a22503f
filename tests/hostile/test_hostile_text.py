"""Prompts and tokenizer models from people who mean no good."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_tta.errors import RequestError
from edge_tta.text import MAX_PROMPT_BYTES, Tokenizer, normalise

ROOT = Path(__file__).resolve().parents[2]
MODEL_PATH = ROOT / "tests/golden/edge-tiny/tokenizer.model"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_bytes(MODEL_PATH.read_bytes(), max_tokens=16)


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("", "empty"),
        (" \t\r\n\u3000", "empty"),
        ("\u200b\u200e\u2066\ufeff\u00ad", "empty"),
        ("\x00", "NUL"),
        ("rain\x00.wav", "NUL"),
        ("\ud83d", "surrogate"),
        ("rain \udc80", "surrogate"),
        ("🌧🐕👩\u200d👩\u200d👧", "letter"),
        ("!!! ... ???", "letter"),
        ("\u0301\u0302", "letter"),
        ("x" * 1_000_000, "1000000 bytes"),
        ("🌧" * 1025, "4100 bytes"),
    ],
)
def test_prompt_that_is_none(prompt: str, word: str) -> None:
    started = time.process_time()
    with pytest.raises(RequestError, match=word) as caught:
        normalise(prompt)
    assert time.process_time() - started < 0.1
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "prompt",
    [
        "a" * MAX_PROMPT_BYTES,
        "a" + "\u0301" * 2047,
        "ﷺ" * 1365,
        "a" + "\u200b" * 1300,
        "<0x00></s><s><unk>" * 200 + "a",
        "%s%n{0}${jndi:ldap://x}" * 100,
        "../../etc/passwd",
        "'; DROP TABLE sounds; --",
    ],
)
def test_prompt_of_any_content_stays_inside_its_tensor(tokenizer: Tokenizer, prompt: str) -> None:
    started = time.process_time()
    encoded = tokenizer.encode(prompt)
    assert time.process_time() - started < 0.5
    assert encoded.ids.dtype == np.int64 and 1 < len(encoded.ids) <= 16
    assert encoded.ids.min() >= 0 and encoded.ids.max() < tokenizer.vocab_size
    assert encoded.ids.tolist().count(tokenizer.eos_id) == 1


def test_two_thousand_prompts_from_all_of_unicode(tokenizer: Tokenizer) -> None:
    draw = random.Random(3)
    blocks = [(0, 0x7F), (0x80, 0x24F), (0x300, 0x36F), (0x600, 0x6FF), (0x2000, 0x206F), (0x3040, 0x30FF)]
    blocks += [(0xD800, 0xDFFF), (0xE000, 0xF8FF), (0xFB00, 0xFDFF), (0x1F300, 0x1FAFF), (0xE0000, 0xE007F)]
    outcomes = {"ids": 0, "refused": 0}
    slowest = 0.0
    for _ in range(2000):
        chosen = draw.choices(blocks, k=draw.randrange(1, 4))
        length = draw.randrange(1, 300)
        prompt = "".join(chr(draw.randint(*draw.choice(chosen))) for _ in range(length))
        started = time.process_time()
        try:
            ids = tokenizer.encode(prompt).ids
        except RequestError as error:
            outcomes["refused"] += 1
            assert str(error).isprintable()
        else:
            outcomes["ids"] += 1
            assert 1 < len(ids) <= 16 and ids.max() < tokenizer.vocab_size
        slowest = max(slowest, time.process_time() - started)
    assert min(outcomes.values()) > 200 and slowest < 0.1


def test_damaged_tokenizer_models_end_in_an_answer() -> None:
    """Native code reads the model; in a process of its own, with the hash forged, it must fail cleanly or work."""
    code = f"""
import random, sys
sys.path.insert(0, {str(ROOT)!r})
from edge_tta.errors import BundleError, RequestError
from edge_tta.text import Tokenizer
data = open({str(MODEL_PATH)!r}, "rb").read()
draw = random.Random(5)
outcomes = {{"refused": 0, "works": 0}}
for attempt in range(300):
    damaged = bytearray(data)
    for _ in range(draw.randrange(1, 8)):
        damaged[draw.randrange(len(data))] = draw.randrange(256)
    if attempt % 3 == 0:
        del damaged[draw.randrange(len(damaged)):]
    try:
        tokenizer = Tokenizer.from_bytes(bytes(damaged), 16)
        ids = tokenizer.encode("rain on a tin roof").ids
        assert 1 <= len(ids) <= 16 and ids.min() >= 0 and ids.max() < tokenizer.vocab_size
        outcomes["works"] += 1
    except (BundleError, RequestError):
        outcomes["refused"] += 1
print(outcomes["refused"], outcomes["works"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    refused, works = map(int, done.stdout.split())
    assert refused > 50 and refused + works == 300
