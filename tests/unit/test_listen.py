"""The blind listening test: sides are hidden and even, controls are identical, answers are scored against the key."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from altered_bundles import alter_bundle
from typer.testing import CliRunner

from edge_tta.cli.main import app
from edge_tta.errors import ConfigError, DataError
from edge_tta.evaluate.listening import (
    ListeningAnswers,
    ListeningKey,
    Trial,
    read_document,
    score,
)
from edge_tta.evaluate.listening_sheet import ListeningOptions, make_listening_test


@pytest.fixture(scope="module")
def quiet_bundle(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose int8 variant is half as loud, so that its sounds can be told."""
    target = tmp_path_factory.mktemp("quiet") / "b"
    return alter_bundle(toy_bundle, target, {"decoder": ("frame_weight", lambda w: w / 2)})


def sounds_of(page: Path) -> list[np.ndarray]:
    """All sounds of a page in order."""
    found = re.findall(r'src="data:audio/flac;base64,([^"]+)"', page.read_text("utf-8"))
    return [soundfile.read(io.BytesIO(base64.b64decode(data)))[0] for data in found]


def key_of(sides: list[tuple[str, str]]) -> ListeningKey:
    trials = [Trial(prompt="rain", seed=n, a=a, b=b) for n, (a, b) in enumerate(sides)]  # type: ignore[arg-type]
    return ListeningKey(
        schema="listening-key/1", bundle="b", bundle_digest="d", reference="r", variant="v", order_seed=1,
        trials=trials,
    )  # fmt: skip


def sheet(
    key: ListeningKey, answers: dict[int, str], listener: str = "me", **other: object
) -> ListeningAnswers:
    rows = [{"trial": trial, "answer": answer} for trial, answer in answers.items()]
    document = {
        "schema": "listening-answers/1",
        "test": key.test,
        "listener": listener,
        "answers": rows,
        **other,
    }
    return ListeningAnswers.model_validate_json(json.dumps(document))


def test_the_page_plays_what_the_key_says_and_does_not_tell(quiet_bundle: Path, tmp_path: Path) -> None:
    options = ListeningOptions(pairs=12, controls=4, seconds=0.5, order_seed=9, threads=1)
    key = make_listening_test(quiet_bundle, tmp_path, options)
    assert read_document(ListeningKey, tmp_path / "key.json") == key
    sounds = sounds_of(tmp_path / "listening.html")
    assert len(key.trials) == 16 and len(sounds) == 32
    for trial, first, second in zip(key.trials, sounds[::2], sounds[1::2], strict=True):
        if trial.control:
            assert np.array_equal(first, second)
        else:
            louder = "a" if np.square(first).sum() > np.square(second).sum() else "b"
            assert getattr(trial, louder) == "reference"
    page = (tmp_path / "listening.html").read_text("utf-8")
    shown = re.sub(
        r"data:audio/flac;base64,[^\"]+|<style>.*?</style>|<script>.*?</script>", "", page, flags=re.DOTALL
    )
    assert not re.search(r"ort-|int8|fp32|variant|reference|identical", shown)
    assert key.test in shown


def test_sides_and_order_are_random_and_repeatable(quiet_bundle: Path, tmp_path: Path) -> None:
    def make(name: str, seed: int) -> ListeningKey:
        options = ListeningOptions(pairs=40, controls=10, seconds=0.5, order_seed=seed, threads=1)
        return make_listening_test(quiet_bundle, tmp_path / name, options)

    first, again, other = make("1", 1), make("2", 1), make("3", 2)
    assert first == again and first.test == again.test != other.test
    assert (tmp_path / "1" / "listening.html").read_bytes() == (
        tmp_path / "2" / "listening.html"
    ).read_bytes()
    assert [t.prompt for t in first.trials] != [t.prompt for t in other.trials]
    assert sum(trial.control for trial in first.trials) == 10
    turned = sum(trial.a == "variant" for trial in first.trials if not trial.control)
    assert 10 <= turned <= 30
    assert {trial.a for trial in first.trials if trial.control} == {"reference", "variant"}


def test_scores_are_counted_by_what_is_behind_the_sides() -> None:
    real = [("reference", "variant"), ("variant", "reference")] * 5
    key = key_of([*real, ("reference", "reference"), ("variant", "variant")])
    # Eight preferences, seven of them for the reference, whichever side it is on; one of the identical pairs imagined.
    answers = {n: "a" if n % 2 else "b" for n in range(1, 8)} | {
        8: "a",
        9: "same",
        10: "same",
        11: "a",
        12: "same",
    }
    (found,) = score(key, [sheet(key, answers)])
    assert found.noticed is not None and (found.noticed.value, found.noticed.n) == (0.8, 10)
    assert found.imagined is not None and (found.imagined.value, found.imagined.n) == (0.5, 2)
    assert found.variant_preferred is not None and found.variant_preferred.value == pytest.approx(1 / 8)
    assert found.variant_preferred.low == pytest.approx(0.0032, abs=1e-4)
    assert found.variant_preferred.high == pytest.approx(0.5265, abs=1e-4)
    # Two-sided: 2 * (1 + 8) / 2^8.
    assert found.sign_test == pytest.approx(18 / 256)


def test_missing_answers_and_several_listeners() -> None:
    key = key_of([("reference", "variant")] * 3)
    nothing, all_same, one = score(key, [sheet(key, {}, ""), sheet(key, {1: "same", 2: "same"})])
    assert (nothing.listener, nothing.noticed, nothing.sign_test) == ("listener 1", None, None)
    assert all_same.noticed is not None and all_same.noticed.value == 0.0
    assert all_same.variant_preferred is None and all_same.imagined is None
    assert one.listener == "all together" and one.noticed is not None and one.noticed.n == 2


@pytest.mark.parametrize(
    ("answers", "other", "words"),
    [
        ({1: "a", 4: "b"}, {}, "pair 4 does not exist"),
        ({1: "a"}, {"test": "0123456789abcdef"}, "belong to test 0123456789abcdef"),
    ],
)
def test_answers_that_do_not_fit_are_refused(
    answers: dict[int, str], other: dict[str, object], words: str
) -> None:
    key = key_of([("reference", "variant")] * 3)
    with pytest.raises(DataError, match=words):
        score(key, [sheet(key, answers, **other)])
    doubled = ListeningAnswers.model_validate_json(
        json.dumps({
            "schema": "listening-answers/1", "test": key.test, "listener": "",
            "answers": [{"trial": 1, "answer": "a"}] * 2,
        })
    )  # fmt: skip
    with pytest.raises(DataError, match="twice"):
        score(key, [doubled])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Invalid JSON"),
        ('{"schema": "listening-answers/2", "test": "x", "listener": "", "answers": []}', "schema"),
        ('{"schema": "listening-answers/1", "test": "x", "listener": "", "answers": [], "more": 1}', "more"),
        ('{"schema": "listening-answers/1", "test": "x", "listener": "", "answers": [{"trial": 0, "answer": "a"}]}',
         "answers.0.trial"),
        ("[" * 20000, "Invalid JSON"),
        (" " * (2**20 + 1), "at most"),
    ],
)  # fmt: skip
def test_answers_from_strangers_are_read_strictly(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        read_document(ListeningAnswers, path)
    assert "\n" not in str(caught.value)


def test_from_the_command_line(quiet_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "test"
    arguments = ["listen", "make", str(quiet_bundle), "-o", str(folder), "--pairs", "3", "--controls", "1"]
    made = CliRunner().invoke(app, [*arguments, "--seconds", "0.5", "--order-seed", "4", "--quiet"])
    assert made.exit_code == 0, made.output
    key = read_document(ListeningKey, folder / "key.json")
    real = [n for n, trial in enumerate(key.trials, 1) if not trial.control]
    likes = {n: "a" if key.trials[n - 1].a == "variant" else "b" for n in real}
    (tmp_path / "me.json").write_text(sheet(key, likes).model_dump_json(by_alias=True))
    scored = ["listen", "score", str(tmp_path / "me.json"), "--key", str(folder / "key.json")]
    result = CliRunner().invoke(app, scored)
    assert result.exit_code == 0, result.output
    assert "ort-int8 preferred to ort-fp32: 3 of 3 (100 %, 95 % interval 29 to 100 %)" in result.stdout
    document = json.loads(CliRunner().invoke(app, [*scored, "--json"]).stdout)
    assert document["schema"] == "listen-score/1" and document["scores"][0]["sign_test"] == 0.25
    missing = CliRunner().invoke(
        app, ["listen", "score", str(tmp_path / "none.json"), "--key", str(folder / "key.json")]
    )
    assert missing.exit_code == 2 and missing.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"variant": "ort-int4"}, "has no variant 'ort-int4'"),
        ({"variant": "ort-fp32"}, "nothing to compare"),
        ({"pairs": 200, "controls": 100}, "the lists have"),
        ({"pairs": 0}, "pairs 0"),
    ],
)
def test_tests_that_cannot_be_made(
    options: dict[str, object], words: str, quiet_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        make_listening_test(quiet_bundle, tmp_path / "out", ListeningOptions(**options))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
