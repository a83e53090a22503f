"""Prompts become the same ids in Kotlin as in Python, and the same ones are refused."""

from __future__ import annotations

import csv
import io
import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from engine_process import Engine, EngineError

from edge_tta.errors import RequestError
from edge_tta.runtime.request import GenerationRequest
from edge_tta.text import MAX_PROMPT_BYTES, Tokenizer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "edge_tta" / "assets" / "edge-10m" / "tokenizer.model"
TINY = ROOT / "tests" / "golden" / "edge-tiny" / "tokenizer.model"
GOLDEN = ROOT / "tests" / "golden" / "tokens.json"
TABLES = [
    *sorted((ROOT / "edge_tta" / "evaluate" / "prompts").glob("*.csv")),
    ROOT / "edge_tta" / "train" / "data" / "wordings.csv",
]
MODELS = [(SHIPPED, 64), (SHIPPED, 4096), (TINY, 16)]
ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz      ",
    "rain on a tin roof, wind & thunder! 0123456789",
    "àéîõüßøåñçÀÉÎÕÜẞØÅÑÇ ﬁﬂ½²ªº",
    "ΑΒΓΣσςάΈ ΌΔΟΣ.ΣΑ'Σ’Σ:Σ ΑΣ\u0301",
    "привет МИР Ёж",
    "かなカナｶﾅﾞﾟ漢字　ＡＢＣａｂｃ１２３",
    "한국어 각ᄀᆞᆨ가ᄒ\u1161\u11a8",
    "مرحبا بالعالم ﷺﷻ ١٢٣ \u200f\u200e\u061c",
    "עברית \u202b\u202c\u2067\u2069",
    "नमस्ते क्षि ไทย ທ",
    "😀🐶👩‍👩‍👧🇩🇪👍🏽❤️ ",
    "a\u0301\u0327\u0308e\u0323\u0302o\u0328\u0304q\u0307\u0323",
    "\u0000\u0001\u0007\t\n\u000b\u000c\r\u001c\u001f\u007f\u0085\u00a0\u2003\u2028\u3000 ab",
    "\u00ad\u200b\u200c\u200d\u2060\ufeff\u180e ab",
    "▁ ▁a▁b",
    "İIıiΣŞǅǆ Ⅷⅷ Ⓐⓐ 𝐀𝒷",
    "\U0010ffff\ue000\ufffd\ufffe ab",
    ".,;:!?'\"()[]{}<>@#$%^&*_-+=~`|\\/",
]


@pytest.fixture(scope="module")
def characters(engine: Engine) -> list[str]:
    """Every character that the Unicode tables of both languages know, surrogates left out."""
    return [
        chr(point)
        for first, last in engine("assigned")
        for point in range(first, last + 1)
        if unicodedata.category(chr(point)) not in ("Cn", "Cs")
    ]


def compare(engine: Engine, model: Path, max_tokens: int, prompts: list[str]) -> int:
    """Both answers for every prompt are equal; how many were refused."""
    tokenizer = Tokenizer.from_bytes(model.read_bytes(), max_tokens)
    refused = 0
    for start in range(0, len(prompts), 2000):
        part = prompts[start : start + 2000]
        found = engine("tokenize", model=str(model), max_tokens=max_tokens, prompts=part)
        for prompt, answer in zip(part, found, strict=True):
            expected: dict[str, Any]
            try:
                made = tokenizer.encode(prompt)
            except RequestError as error:
                expected = {"error": "RequestException", "message": str(error)}
                refused += 1
            else:
                expected = {"ids": made.ids.tolist(), "dropped": made.dropped, "text": made.text}
            assert answer == expected, ascii(prompt[:200])
    return refused


def packaged_prompts() -> list[str]:
    """Every cell of every packaged table, prompts among them."""
    cells: dict[str, None] = {}
    for table in TABLES:
        for row in csv.reader(io.StringIO(table.read_text(encoding="utf-8"))):
            cells.update(dict.fromkeys(row))
    return list(cells)


def random_prompts(characters: list[str], count: int, longest: int, seed: int) -> list[str]:
    """Texts from one alphabet, from several, or from all characters."""
    draw = random.Random(seed)
    prompts = []
    for _ in range(count):
        sources: list[Any] = draw.choices([*ALPHABETS, characters], k=draw.choice([1, 1, 2, 3]))
        length = draw.choice([1, 2, 3, draw.randrange(1, 30), draw.randrange(1, longest)])
        prompts.append("".join(draw.choice(draw.choice(sources)) for _ in range(length)))
    return prompts


@pytest.mark.parametrize(("model", "max_tokens"), MODELS)
def test_packaged_prompts_have_the_ids_of_python(engine: Engine, model: Path, max_tokens: int) -> None:
    prompts = packaged_prompts()
    assert len(prompts) > 1000
    compare(engine, model, max_tokens, prompts)


def test_golden_tokens(engine: Engine) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    prompts = [case["prompt"] for case in golden]
    answers = engine("tokenize", model=str(TINY), max_tokens=16, prompts=prompts)
    for case, answer in zip(golden, answers, strict=True):
        assert {**answer, "prompt": case["prompt"]} == case


@pytest.mark.parametrize(("model", "max_tokens"), MODELS)
def test_random_text_has_the_ids_of_python(
    engine: Engine, characters: list[str], model: Path, max_tokens: int
) -> None:
    prompts = random_prompts(characters, 4000, 300, seed=max_tokens)
    refused = compare(engine, model, max_tokens, prompts)
    assert 100 < refused < 2000


def test_long_texts_have_the_ids_of_python(engine: Engine, characters: list[str]) -> None:
    compare(engine, SHIPPED, 4096, random_prompts(characters, 300, 1500, seed=3))


def test_every_character_has_the_ids_of_python(engine: Engine, characters: list[str]) -> None:
    known = [character for character in characters if unicodedata.category(character) != "Co"]
    assert len(known) > 130_000
    compare(engine, SHIPPED, 64, known)
    compare(engine, SHIPPED, 64, [f"Ab {character}b" for character in known])


@pytest.mark.parametrize(
    "prompt",
    [
        "", " ", "\t\n", "\u200b", "…", "!!!", "😀", "\u0301", "a\x00b", "\x00",
        "x" * MAX_PROMPT_BYTES, "x" * (MAX_PROMPT_BYTES + 1), "é" * 2048, "é" * 2049, "😀" * 1024 + "x",
        "\ud800", "a\udc00b", "\udc00\ud800", "rain\ud83d", "½", "²", "Ⅷ", "〇", "ª", "ǅ", "ΑΣ", "ΑΣ.", "ΑΣ.Α", "Σ",
        "ᾼΣ", "ʰΣ", "aʰΣ", "a\u00adΣ", "İ", "a b", "a  b", " a ", "▁", "a ▁", "▁ a", "a▁▁", "\ufdfa" * 50,
    ],
)  # fmt: skip
def test_edges_of_text(engine: Engine, prompt: str) -> None:
    compare(engine, SHIPPED, 64, [prompt])
    compare(engine, TINY, 16, [prompt])


def compare_layers(engine: Engine, prompts: list[str]) -> int:
    """Both name the same sounds and levels of every prompt, or refuse it alike; how many name several."""
    several = 0
    for prompt, answer in zip(prompts, engine("layers", prompts=prompts), strict=True):
        expected: Any
        try:
            expected = [[layer.prompt, layer.level_db] for layer in GenerationRequest(prompt).layers]
            several += len(expected) > 1
        except RequestError as error:
            expected = {"error": "RequestException", "message": str(error)}
        assert answer == expected, ascii(prompt[:200])
    return several


def test_sounds_of_a_prompt_are_those_of_python(engine: Engine) -> None:
    named = [
        "rain on a tin roof + distant  thunder", "Rain\t+\nthunder (-6 dB)", "rain\u2028+\u3000wind\x85+\x1cdogs",
        "rain (+2.5DB) \uff0b thunder (\u22123 dB)", "rain (\u22126db) + a \ufe62 b (\uff0d6 \uff24\uff22)",
        "a + b + c (40 dB) + d (-40 dB)", "a (0.125 dB) + b (-0 dB)", "a (007.5 dB) + b", "\"wind\" + 'rain'",
        "rain (soft) + wind (6 dB) outside", "a(-6 dB) + b (6  dB)", "a (6.1234 dB) + b (6. dB)", "a (\u0666 dB) + b",
        "(-6 dB) (3 dB) + b", "a (-6 dB) (3 dB) + b (+-6 dB)", "a \u200b+\u200b b", "\u96e8 + \u0130 (\uff16\u33c8)",
    ]  # fmt: skip
    assert compare_layers(engine, named) == len(named)
    alone = ["Rain on a tin roof", "rain (-6 dB)", "1+1 voices saying c++", "a +b", "a+ b", "\ufdfa" * 1000]
    refused = [
        "rain +", "+ rain", "+", "rain + + wind", "rain + (-6 dB)", "(6 dB) + rain", "rain + !", "! (6 dB) + rain",
        "a + b + c + d + e", "a + b + c + d +", "rain + wind (40.5 dB)", "rain + wind (-999 dB)", "a (40.001db) + b",
        "a (\u221240.125 dB) + (6 dB)", "a (999.999 dB) + b", "a (123.456 dB) + b", "\ufdfa" * 1000 + " + b", "",
    ]  # fmt: skip
    assert compare_layers(engine, alone + refused) == 0


def test_sounds_of_random_prompts_are_those_of_python(engine: Engine) -> None:
    draw = random.Random(17)
    pieces = [
        " ", " ", "+", " + ", "\uff0b", "a", "Rain", "\u96e8", "!", "(", ")", " (", "-", "\u2212", ".", "db",
        " (-6 dB)", " (\u22123.5dB)", " (+40 dB)", " (41 dB)", " dB)", "6", "40.5", "\u0666", "\u200b", "\t",
    ]  # fmt: skip
    prompts = ["".join(draw.choices(pieces, k=draw.randrange(1, 16))) for _ in range(6000)]
    assert compare_layers(engine, prompts) > 500


def trained(folder: Path, **options: Any) -> Path:
    """A small SentencePiece model on packaged prompts."""
    import sentencepiece

    target = folder / "other.model"
    defaults = {
        "model_type": "unigram",
        "vocab_size": 420,
        "unk_id": 0,
        "eos_id": 1,
        "bos_id": -1,
        "pad_id": -1,
    }
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(packaged_prompts()),
        model_writer=model,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
        **(defaults | options),
    )
    target.write_bytes(model.getvalue())
    return target


@pytest.mark.parametrize(
    "options",
    [
        {"byte_fallback": True},
        {"byte_fallback": False},
        {"byte_fallback": False, "normalization_rule_name": "nfkc_cf"},
        {"byte_fallback": True, "normalization_rule_name": "identity", "add_dummy_prefix": False},
        {"byte_fallback": True, "normalization_rule_name": "nfkc", "remove_extra_whitespaces": False},
        {"byte_fallback": True, "treat_whitespace_as_suffix": True},
        {"byte_fallback": True, "split_by_whitespace": False, "bos_id": 2, "pad_id": 3},
    ],
)
def test_models_of_other_kinds(
    engine: Engine, characters: list[str], tmp_path: Path, options: dict[str, Any]
) -> None:
    model = trained(tmp_path, **options)
    compare(engine, model, 512, packaged_prompts()[:500] + random_prompts(characters, 1500, 120, seed=5))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model_type": "bpe"}, "not a unigram model"),
        ({"user_defined_symbols": ["<rain>"]}, "user-defined pieces"),
        ({"eos_id": -1}, "end-of-sentence"),
    ],
)
def test_models_that_are_not_supported(
    engine: Engine, tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    model = trained(tmp_path, **options)
    with pytest.raises(EngineError, match=reason) as refused:
        engine("tokenize", model=str(model), max_tokens=64, prompts=["rain"])
    assert refused.value.kind == "BundleException"


def test_damaged_models_are_refused_or_read(engine: Engine, tmp_path: Path) -> None:
    whole = TINY.read_bytes()
    draw = random.Random(11)
    target = tmp_path / "damaged.model"
    refused = 0
    for _ in range(400):
        data = bytearray(whole)
        if draw.random() < 0.3:
            del data[draw.randrange(len(data)) :]
        for _ in range(draw.randrange(1, 4)):
            if data:
                data[draw.randrange(len(data))] = draw.randrange(256)
        target.write_bytes(data)
        try:
            engine("tokenize", model=str(target), max_tokens=16, prompts=["rain on a tin roof"])
        except EngineError as error:
            assert error.kind == "BundleException", error
            refused += 1
    assert refused > 100
