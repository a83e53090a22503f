"""Lists of prompts to evaluate with."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_tta.errors import DataError
from edge_tta.evaluate.suite import Prompt, find_prompts, read_prompts

PACKAGED = {
    "labels": {"labels"},
    "paraphrases": {"paraphrases"},
    "paraphrases_and_pairs": {"paraphrases", "two sounds", "two sounds mixed"},
}


def test_prompts_are_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "plain.csv"
    path.write_text('prompt,label,suite\nA hum.,deep hum,plain\n"Hum, hiss",deep hum;hiss,\n')
    assert read_prompts(path) == (
        Prompt("A hum.", ("deep hum",), "plain"),
        Prompt("Hum, hiss", ("deep hum", "hiss"), "plain"),
    )
    for text, match in [
        ("text,label\nx,y\n", "'prompt'"),
        ("prompt,label\n,y\n", ":2:"),
        ("prompt,label\n", "no prompt"),
        ("prompt,label,suite\nrain,rain,plain\nrain,rain,two, mixed\n", ":3: more cells than columns"),
    ]:
        path.write_text(text)
        with pytest.raises(DataError, match=match):
            read_prompts(path)


def test_packaged_lists_have_the_suites_that_reports_are_read_by() -> None:
    suites = {name: {prompt.suite for prompt in read_prompts(find_prompts(name))} for name in PACKAGED}
    assert suites == PACKAGED
