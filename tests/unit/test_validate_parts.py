"""Loudness, defects, gates, intervals, HTML and charts: what a validation is made of, against known values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from edge_tta.audio import Audio
from edge_tta.bundle.entries import Precision
from edge_tta.errors import ConfigError, DataError
from edge_tta.evaluate.defects import count_clicks, count_defects, find_defects
from edge_tta.evaluate.frechet import frechet_change, frechet_distance
from edge_tta.evaluate.gates import Gate, judge, load_gates
from edge_tta.evaluate.html import Markup, data_address, document, element
from edge_tta.evaluate.html_table import Cell, table
from edge_tta.evaluate.loudness import integrated_loudness
from edge_tta.evaluate.parity_text import figure_number, number
from edge_tta.evaluate.spectrogram import loudest_cell, picture_png, spectrogram_pixels
from edge_tta.evaluate.statistics import Spread, binomial_interval, sign_test, spread
from edge_tta.evaluate.strip_chart import Limit, Strip, nice_ticks, strip_chart
from edge_tta.runtime.finish import finish_waveform

RATE = 44100


def tone(db: float, seconds: float, hertz: float = 1000.0, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (10 ** (db / 20) * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


@pytest.mark.parametrize("rate", [44100, 48000])
@pytest.mark.parametrize(
    "parts",
    [
        [(-23, 20)],
        [(-36, 10), (-23, 60), (-36, 10)],
        [(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)],
        [(-26, 20), (-20, 20.1), (-26, 20)],
    ],
    ids=["steady", "relative gate", "absolute gate", "mean of energy"],
)
def test_loudness_is_that_of_the_broadcasters_test_signals(
    parts: list[tuple[float, float]], rate: int
) -> None:
    """Stereo 1 kHz tones that must read -23.0 LUFS within 0.1 (EBU Tech 3341, cases 1, 3, 4 and 5)."""
    signal = np.concatenate([tone(db, seconds, rate=rate) for db, seconds in parts])
    assert integrated_loudness(Audio(np.stack([signal, signal]), rate)) == pytest.approx(-23.0, abs=0.1)


def test_loudness_of_silence_and_of_next_to_nothing_is_none() -> None:
    assert integrated_loudness(Audio(np.zeros((1, RATE), dtype=np.float32), RATE)) is None
    assert integrated_loudness(Audio(tone(-20, 0.39)[None], RATE)) is None
    assert integrated_loudness(Audio(tone(-20, 0.5)[None], RATE)) is not None
    assert integrated_loudness(Audio(tone(-80, 2)[None], RATE)) is None


def defects_of(waveform: np.ndarray) -> object:
    samples, *_ = finish_waveform(waveform[None], len(waveform), RATE)
    return find_defects(waveform[None], Audio(samples, RATE))


def test_a_clean_tone_has_no_defects() -> None:
    for hertz in (20, 50, 440, 8000):
        found = defects_of(tone(0, 1, hertz))
        assert (found.silent, found.flat_tops, found.clicks) == (False, 0, 0), hertz  # type: ignore[attr-defined]


def test_defects_are_counted_where_they_are() -> None:
    loud = defects_of(2 * tone(0, 1))
    assert loud.overload_db == pytest.approx(6.02, abs=0.01) and loud.flat_tops == 0  # type: ignore[attr-defined]
    clipped = defects_of(np.clip(2 * tone(0, 1, 100), -1, 1))
    # A hundred periods with two flat tops each; those in the fades at both ends are no longer flat.
    assert 195 <= clipped.flat_tops <= 200 and clipped.overload_db == 0.0  # type: ignore[attr-defined]
    assert defects_of(np.zeros(RATE, dtype=np.float32)).silent  # type: ignore[attr-defined]
    total = count_defects([loud, clipped])  # type: ignore[list-item]
    assert (total.silent, total.overloaded, total.flat_topped) == (0, 1, 1)


def test_clicks_are_jumps_that_stand_out() -> None:
    generator = np.random.default_rng(1)
    noise = (0.1 * generator.standard_normal(5 * RATE)).astype(np.float32)
    assert count_clicks(noise, RATE) == 0
    # An onset is loud itself: it is no click.
    onset = np.concatenate([np.zeros(RATE, dtype=np.float32), noise[:RATE]])
    assert count_clicks(onset, RATE) == 0
    smooth = tone(-6, 2, 200)
    for place in (20000, 40000, 40100, 60000):
        smooth[place] += 0.3
    # Two of the four are 2 ms apart and count as one.
    assert count_clicks(smooth, RATE) == 3
    broken = tone(-6, 2, 200)
    broken[RATE:] *= -1
    broken[RATE - 55 : RATE] = broken[RATE - 55]
    assert count_clicks(broken, RATE) == 1
    assert count_clicks(np.zeros(4, dtype=np.float32), RATE) == 0


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(0, 10, 0.0, 0.3085), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0), (6, 20, 0.1189, 0.5428)],
)
def test_binomial_interval_is_the_exact_one(successes: int, count: int, low: float, high: float) -> None:
    """Values of Clopper and Pearson's interval as tables have them, and as the beta distribution gives it."""
    from scipy.stats import beta

    found = binomial_interval(successes, count)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
    if successes:
        assert found.low == pytest.approx(beta.ppf(0.025, successes, count - successes + 1), abs=1e-9)
    if successes < count:
        assert found.high == pytest.approx(beta.ppf(0.975, successes + 1, count - successes), abs=1e-9)


def test_thousands_of_answers_have_an_interval_too() -> None:
    found = binomial_interval(2500, 5000)
    normal = 1.96 * (0.25 / 5000) ** 0.5
    assert (found.low, found.high) == pytest.approx((0.5 - normal, 0.5 + normal), abs=2e-4)
    assert sign_test(2400, 5000) == pytest.approx(0.0049, abs=2e-4)


def test_sign_test_counts_what_is_as_far_from_half() -> None:
    # 0, 1, 6 and 7 of 7: 2 (1 + 7) / 128.
    assert sign_test(1, 7) == sign_test(6, 7) == pytest.approx(16 / 128)
    assert sign_test(0, 3) == pytest.approx(1 / 4)
    assert sign_test(2, 4) == 1.0


@pytest.mark.parametrize("figure", [binomial_interval, sign_test])
@pytest.mark.parametrize(("successes", "count"), [(3, 2), (-1, 2), (0, 0)])
def test_impossible_counts_are_refused(
    figure: Callable[[int, int], object], successes: int, count: int
) -> None:
    with pytest.raises(DataError):
        figure(successes, count)


def test_spread_has_middle_and_ends() -> None:
    found = spread([1.0, 2.0, 9.0], np.random.default_rng(0))
    assert (found.value, found.median, found.lowest, found.highest, found.n) == (4.0, 2.0, 1.0, 9.0, 3)
    assert 1.0 <= found.low <= found.high <= 9.0


def test_frechet_change_is_paired() -> None:
    generator = np.random.default_rng(4)
    real = generator.standard_normal((200, 4))
    before = generator.standard_normal((60, 4)) + 1.0
    same = frechet_change(before, before, real, np.random.default_rng(0))
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    after = before + 0.05
    change = frechet_change(before, after, real, np.random.default_rng(0))
    expected = 100 * (frechet_distance(after, real) / frechet_distance(before, real) - 1)
    assert change.value == pytest.approx(expected)
    # Sounds differ far more among themselves than a pair does: unpaired, the interval would hold zero.
    assert change.low > 0
    with pytest.raises(DataError, match="pairs"):
        frechet_change(before, after[:-1], real, generator)
    with pytest.raises(DataError, match="zero"):
        frechet_change(real, real, real, generator)


GATE = Gate("Loudness", "end_to_end.loudness_change_lu", at_least=-1.0)


@pytest.mark.parametrize(
    ("figure", "passed", "decisive"),
    [
        (Spread(0.0, -0.5, 0.5, 9), True, True),
        (Spread(-0.9, -1.5, 0.0, 9), True, False),
        (Spread(-1.0, -1.0, -1.0, 9), True, True),
        (Spread(-2.0, -3.0, -0.5, 9), False, False),
        (Spread(-2.0, -3.0, -1.5, 9), False, True),
    ],
)
def test_a_gate_judges_and_says_how_sure_it_is(figure: Spread, passed: bool, decisive: bool) -> None:
    (outcome,) = judge([GATE], "int8", {GATE.figure: figure})
    assert (outcome.passed, outcome.decisive, outcome.measured) == (passed, decisive, figure.value)


def test_gates_are_for_precisions_and_statistics() -> None:
    lowest = Gate("L", GATE.figure, at_most=3.0, statistic="highest", precisions=("int8", "int4"))
    figures = {GATE.figure: Spread(0.0, -0.5, 0.5, 9, 0.0, -2.0, 4.0)}
    assert judge([lowest], "fp32", figures) == ()
    (outcome,) = judge([lowest], "int4", figures)
    assert (outcome.passed, outcome.decisive, outcome.measured) == (False, None, 4.0)
    (missing,) = judge([lowest], "int8", {})
    assert (missing.passed, missing.measured) == (None, None)


def test_the_packaged_gates_hold_int8_to_the_promises() -> None:
    gates = {gate.figure: gate for gate in load_gates().gates if "int8" in gate.precisions}
    assert gates["end_to_end.frechet_change_percent"].at_most == 5.0
    assert gates["end_to_end.top5_change_points"].at_least == -1.0
    assert gates["generator.latent_snr_db"].at_least == 20.0


JUDGED = (
    "text_encoder.tokens_snr_db",
    "text_encoder.pooled_snr_db",
    "generator.latent_snr_db",
    "decoder.log_mel_distance",
    "end_to_end.log_mel_distance",
    "end_to_end.frechet_change_percent",
    "end_to_end.top1_change_points",
    "end_to_end.top5_change_points",
)
REPORTS = Path(__file__).resolve().parents[2] / "docs" / "reports" / "edge-10m"


@pytest.mark.parametrize("precision", get_args(Precision))
def test_the_packaged_gates_look_at_every_stage_once(precision: str) -> None:
    assert sorted(outcome.figure for outcome in judge(load_gates().gates, precision, {})) == sorted(JUDGED)


def test_every_recorded_variant_keeps_the_packaged_gates_with_a_margin() -> None:
    judged = set()
    for path in sorted(REPORTS.glob("validate*.json")):
        for variant in json.loads(path.read_text("utf-8"))["variants"]:
            figures = {key: Spread(**figure) for key, figure in variant["figures"].items()}
            for gate in judge(load_gates().gates, variant["precision"], figures):
                assert gate.passed and gate.measured is not None, (path.name, variant["name"], gate.title)
                if gate.at_least is not None and gate.figure.endswith("snr_db"):
                    assert gate.measured >= gate.at_least + 5.0, (path.name, variant["name"], gate.title)
                if gate.at_most is not None:
                    assert gate.measured <= gate.at_most * 2 / 3, (path.name, variant["name"], gate.title)
            judged.add(variant["precision"])
    assert judged == set(get_args(Precision))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'name = "x"\n[[gates]]\ntitle = "T"\nfigure = "end_to_end.lod_mel"\nat_most = 1.0',
            "unknown figure",
        ),
        (
            'name = "x"\n[[gates]]\ntitle = "T"\nfigure = "decoder.stft_distance"',
            "one of at_least and at_most",
        ),
        ('name = "x"\n[[gates]]\ntitle = "T"\nfigur = "a"', "did you mean 'figure'"),
        ("name = ", "Invalid value"),
        *(
            (
                f'name = "x"\n[[gates]]\ntitle = "T"\nfigure = "decoder.stft_distance"\nat_least = {limit}',
                f"at_least {limit} is no finite number",
            )
            for limit in ("nan", "inf", "-inf")
        ),
        (
            (
                'name = "x"\n[[gates]]\ntitle = "T"\nfigure = "decoder.stft_distance"\nat_most = 1.0\n'
                'precisions = ["int9"]'
            ),
            "'int9' is none of 'fp32', 'fp16', 'int8', 'int4'",
        ),
    ],
)
def test_wrong_gates_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "gates.toml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_gates(tmp_path / "gates.toml")


def test_markup_escapes_all_that_is_not_markup() -> None:
    made = element("p", "a < b & “c”", element("b", "<i>"), title='"><script>', data_head="x", class_="soft")
    assert made == (
        '<p title="&quot;&gt;&lt;script&gt;" data-head="x" class="soft">a &lt; b &amp; “c”<b>&lt;i&gt;</b></p>'
    )
    assert element("img", src="x", alt=None, hidden=True) == '<img src="x" hidden>'
    assert element("line", x1=1.0, x2=2.3456) == '<line x1="1" x2="2.35"/>'
    assert data_address("text/plain", b"hi") == "data:text/plain;base64,aGk="


def test_a_page_asks_for_nothing_outside_itself() -> None:
    page = document("T & T", Markup("<main></main>"), scripts=("players.js", "tables.js", "listening.js"))
    assert page.startswith("<!doctype html>") and "<title>T &amp; T</title>" in page
    assert re.findall(r"(?:src|href)=[\"'](?!data:|#)[^\"']*|@import|url\((?!data:)|https?:", page) == []


def test_tables_group_sort_and_stack() -> None:
    made = table(
        "Sounds", ("name", "dB"), [["group"], ["a", Cell("−1", -1.0, "soft")]], numeric=(1,), sortable=True
    )
    assert '<th scope="rowgroup" colspan="2">group</th>' in made
    assert '<td class="number soft" data-value="-1" data-head="dB">−1</td>' in made
    assert '<th scope="col" class="number"><button type="button">dB</button></th>' in made
    assert 'tabindex="0" role="region" aria-label="Sounds"' in made
    assert 'class="stacked"' in table("T", ("a",), [["x"]], stacked=True)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (-3.1, 41, [-10, 0, 10, 20, 30, 40, 50]),
        (0.0, 0.0, None),
        (0.2, 0.37, None),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low: float, high: float, ticks: list[float] | None) -> None:
    found = nice_ticks(low, high)
    assert found[0] <= low and found[-1] >= high and 3 <= len(found) <= 12
    assert ticks is None or found == ticks


def test_a_chart_has_a_dot_per_sound_and_says_it_in_words() -> None:
    strips = [Strip("first", np.array([1.0, 2.0, 3.0])), Strip("second <b>", np.array([5.0]))]
    made = strip_chart("Title", strips, "dB", limits=[Limit(2.5, (0,), "gate")], from_zero=True)
    assert [len(re.findall("M", path)) for path in re.findall(r'd="([^"]*)"', made)] == [3, 1]
    assert made.count('class="limit"') == 1 and "second &lt;b&gt;" in made
    assert "Title. first: median 2, from 1 to 3 dB; second" in made
    places = [float(x) for x in re.findall(r"M([\d.]+) ", made)]
    assert places == sorted(places) and all(0 <= place <= 480 for place in places)


def test_numbers_read_well() -> None:
    assert number(-0.04, 1, signed=True) == "0.0"
    assert number(-1.25, 2) == "−1.25"
    assert number(1.5, 1, signed=True) == "+1.5"
    assert figure_number("generator.latent_snr_db", 200.0) == "identical"
    shown = [figure_number("end_to_end.log_mel_distance", value) for value in (0.0, 0.0001, 0.0006)]
    assert shown == ["0.000", "<0.001", "0.001"]
    assert figure_number("end_to_end.frechet_change_percent", 0.01) == "0.0"


def test_pictures_of_a_pair_share_their_scale() -> None:
    loud, quiet = tone(-6, 1), tone(-46, 1)
    top = loudest_cell(loud, RATE)
    assert top - loudest_cell(quiet, RATE) == pytest.approx(40.0, abs=0.1)
    alone = spectrogram_pixels(quiet, RATE, 40, 30)
    beside = spectrogram_pixels(quiet, RATE, 40, 30, loudest_db=top)
    assert int(beside.sum()) < int(alone.sum())
    assert picture_png(alone)[:8] == b"\x89PNG\r\n\x1a\n"
