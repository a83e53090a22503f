"""The pages in a real browser: nothing is fetched, nothing fails, and everything on them does what it is for."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from altered_bundles import alter_bundle
from browser import Browser, Page, find_browser, running_browser
from PIL import Image

from edge_tta.audio import Audio
from edge_tta.errors import DataError
from edge_tta.evaluate.adherence import adherence
from edge_tta.evaluate.gallery import FirstSounds, gallery_page, mp3_bytes
from edge_tta.evaluate.listening import ListeningAnswers, read_document, score
from edge_tta.evaluate.listening_sheet import ListeningOptions, make_listening_test
from edge_tta.evaluate.parity_sources import ValidationOptions
from edge_tta.evaluate.results import Provenance, Settings
from edge_tta.evaluate.suite import Prompt
from edge_tta.evaluate.tagger import TaggerConfig, build_network, load_tagger, save_tagger
from edge_tta.evaluate.validate import validate_bundle

HOSTILE = '<img src=x onerror="document.title=1"></script><b>rain</b>'

UNIQUE_NAMES = (
    "(names => new Set(names).size === names.length)([...document.querySelectorAll('[id]')].map(e => e.id))"
)

pytestmark = pytest.mark.skipif(
    find_browser() is None, reason="no Chromium is installed: the pages are not opened in a browser"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(find_browser() or "", tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def bundle(toy_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("altered") / "b"
    return alter_bundle(toy_bundle, target, {"generator": ("latent_weight", lambda w: w * 1.3)})


@pytest.fixture(scope="module")
def validated(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A validation whose only variant misses its gate, with a prompt that is markup."""
    folder = tmp_path_factory.mktemp("validation")
    quoted = HOSTILE.replace('"', '""')
    (folder / "prompts.csv").write_text(f'prompt,label\n"{quoted}",rain\na dog barks,dog bark\n')
    options = ValidationOptions(prompts=(str(folder / "prompts.csv"),), seconds=1.0, worst=3, threads=1)
    # Away from the repository's own tagger, which is found by default.
    with contextlib.chdir(folder):
        validate_bundle(bundle, folder, options)
    return folder / "validate.html"


@pytest.fixture
def page(browser: Browser) -> Page:
    return browser.page()


def test_the_page_stands_alone(validated: Path, page: Page) -> None:
    page.open(validated)
    assert page.addresses == [validated.resolve().as_uri()]
    assert page.errors == []
    assert page.run("document.title") == "Validation of toy"
    assert page.run("document.querySelector('h1').textContent") == "toy against its float model"
    assert page.run("document.querySelector('.lede').textContent").startswith(
        "ort-int8 misses 1 of 5 gates: Latent"
    )
    assert page.run("document.querySelectorAll('#gates .verdict.fail').length") == 1
    # The hostile prompt is text wherever it stands.
    assert page.run(
        f"[...document.querySelectorAll('h4')].some(h => h.textContent === {json.dumps(HOSTILE)})"
    )
    assert page.run("document.querySelectorAll('b, img[src=x]').length") == 0


def test_it_can_be_used_without_eyes_and_without_a_mouse(validated: Path, page: Page) -> None:
    page.open(validated)
    assert page.run("[...document.querySelectorAll('img')].every(i => i.alt && i.naturalWidth > 0)")
    assert page.run("[...document.querySelectorAll('audio, svg')].every(e => e.getAttribute('aria-label'))")
    assert page.run("document.documentElement.lang") == "en"
    assert page.run(UNIQUE_NAMES)
    levels = page.run("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1 and all(after - before <= 1 for before, after in itertools.pairwise(levels))
    targets = page.run(
        "[...document.querySelectorAll('nav a')].map(a => document.querySelector(a.hash) !== null)"
    )
    assert len(targets) >= 4 and all(targets)
    # A button in a table head is reached by tab and works by key.
    page.run("document.querySelector('details').open = true; document.querySelector('th button').focus()")
    page.call(
        "Input.dispatchKeyEvent",
        type="keyDown",
        key="Enter",
        code="Enter",
        windowsVirtualKeyCode=13,
        text="\r",
    )
    page.call("Input.dispatchKeyEvent", type="keyUp", key="Enter", code="Enter", windowsVirtualKeyCode=13)
    assert page.run("document.querySelector('.sortable th').getAttribute('aria-sort')") == "ascending"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_contrast(validated: Path, page: Page, dark: bool) -> None:
    """At least 4.5 to 1 for every text colour on what is behind it (WCAG 2.2, success criterion 1.4.3)."""
    page.open(validated, dark=dark)
    lowest = page.run("""(() => {
      const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
      const luminance = ([r, g, b]) => {
        const [R, G, B] = [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * R + 0.7152 * G + 0.0722 * B;
      };
      const behind = (node) => {
        for (; node; node = node.parentElement) {
          const [r, g, b, a = 1] = channels(getComputedStyle(node).backgroundColor);
          if (a === 1) return [r, g, b];
        }
        return [255, 255, 255];
      };
      let lowest = [99, ""];
      for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim());
        if (!own || ["SCRIPT", "STYLE", "title"].includes(node.tagName)) continue;
        const style = getComputedStyle(node);
        const ink = node.closest("svg") ? style.fill : style.color;
        const [x, y] = [luminance(channels(ink)), luminance(behind(node))];
        const ratio = (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
        if (ratio < lowest[0]) lowest = [ratio, node.outerHTML.slice(0, 120)];
      }
      return lowest;
    })()""")
    assert lowest[0] >= 4.5, lowest


def test_the_table_of_sounds_sorts_by_number_and_turns_round(validated: Path, page: Page) -> None:
    page.open(validated)
    read = (
        """[...document.querySelectorAll('.sortable tbody tr')].map(r => Number(r.cells[8].dataset.value))"""
    )
    click = "document.querySelectorAll('.sortable th button')[8].click()"
    page.run(click)
    ascending = page.run(read)
    assert len(ascending) == 4 and ascending == sorted(ascending) and len(set(ascending)) > 1
    page.run(click)
    assert page.run(read) == ascending[::-1]
    assert page.run("document.querySelectorAll('.sortable th')[8].getAttribute('aria-sort')") == "descending"


def test_players_stop_each_other_and_change_sides_in_mid_sound(validated: Path, page: Page) -> None:
    page.open(validated)
    assert page.run("document.querySelectorAll('.pair').length") == 3
    assert page.run("document.querySelectorAll('audio').length") == 6
    found = page.run("""(async () => {
      const [first, second, third] = document.querySelectorAll("audio");
      for (const player of [first, second, third]) player.loop = true;
      await first.play();
      await third.play();
      const stopped = first.paused && !third.paused;
      await second.play();
      second.currentTime = 0.4;
      const moved = new Promise(done => first.addEventListener("playing", done, { once: true }));
      document.querySelector("button.switch").click();
      await moved;
      return [stopped, second.paused, third.paused, first.paused, first.currentTime, first.duration];
    })()""")
    assert found[:4] == [True, True, True, False]
    assert found[4] >= 0.35 and found[5] == pytest.approx(1.0, abs=0.01)
    assert page.errors == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)], ids=["desk", "phone"])
def test_it_fits_its_window(validated: Path, page: Page, width: int, dark: bool, tmp_path: Path) -> None:
    page.open(validated, width=width, dark=dark)
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth")
    # Whatever is wider than the window scrolls by itself; nothing else sticks out.
    outside = page.run("""[...document.querySelectorAll("main *")].filter(
      e => !e.closest(".scroll") && e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.className)""")
    assert outside == []
    page.screenshot(tmp_path / "page.png")
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("L"), dtype=float)
    assert pixels.shape[0] > 1500 and abs(pixels.shape[1] - width) <= 20
    background = np.median(pixels)
    assert background < 60 if dark else background > 220
    # Pictures and words all the way down: no fifth of the page is empty.
    assert all(part.std() > 5 for part in np.array_split(pixels, 5))


def test_a_listening_test_from_the_page_to_the_score(bundle: Path, browser: Browser, tmp_path: Path) -> None:
    options = ListeningOptions(pairs=2, controls=1, seconds=0.5, order_seed=3, threads=1)
    key = make_listening_test(bundle, tmp_path, options)
    page = browser.page(downloads=tmp_path / "saved")
    page.open(tmp_path / "listening.html", width=390)
    assert page.run("document.documentElement.scrollWidth <= window.innerWidth")
    assert page.run("document.getElementById('progress').textContent") == "0 of 3 answered"
    real = next(n for n, trial in enumerate(key.trials, 1) if not trial.control)
    liked = "a" if key.trials[real - 1].a == "variant" else "b"
    page.run(f"document.querySelector('input[name=trial-{real}][value={liked}]').click()")
    page.run("document.getElementById('listener').value = 'Zoë'")
    assert page.run("document.getElementById('progress').textContent") == "1 of 3 answered"
    page.run("document.getElementById('save').click()")
    assert (
        page.run("document.getElementById('progress').textContent")
        == "Saved. 2 without an answer are left out."
    )
    saved = tmp_path / "saved" / f"answers-{key.test}.json"
    deadline = time.monotonic() + 60
    while not saved.is_file() and time.monotonic() < deadline:
        page.run("new Promise(done => setTimeout(done, 50))")
    answers = read_document(ListeningAnswers, saved)
    assert answers.listener == "Zoë" and [a.trial for a in answers.answers] == [real]
    (found,) = score(key, [answers])
    assert found.variant_preferred is not None and found.variant_preferred.value == 1.0
    assert page.run(UNIQUE_NAMES)
    # Answers survive a reload of the page.
    page.open(tmp_path / "listening.html")
    assert page.run("document.getElementById('progress').textContent") == "1 of 3 answered"
    assert page.errors == []
    assert set(page.addresses) == {(tmp_path / "listening.html").resolve().as_uri()}


def test_the_page_of_an_evaluations_sounds_plays_them(tmp_path: Path, page: Page) -> None:
    labels = ("rain", "dog bark", "bell")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = TaggerConfig(widths=(4, 6, 8), embedding=12)
        save_tagger(build_network(len(labels), config), labels, config, tmp_path)
    tagger, first = load_tagger(tmp_path), FirstSounds()
    noise = 0.1 * np.random.default_rng(0).standard_normal((4, 1, 44100)).astype(np.float32)
    prompts = [Prompt(HOSTILE, ("rain",), "plain"), Prompt("a bell", ("bell",), "plain")]
    prompts.append(Prompt("rain and a dog", ("rain", "dog bark"), "two"))
    for seed, prompt in enumerate([*prompts, prompts[0]]):
        first.add(prompt, seed, Audio(noise[seed], 44100))
    assert [one.seed for one in first.exhibits] == [0, 1, 2]
    real = adherence(tagger.tag(list(noise[:2]), 44100), ["rain", "bell"], tagger)
    report = SimpleNamespace(
        settings=Settings(2, 1.0, 1, None, "int8", 0),
        provenance=Provenance(tagger.digest, "", None, "toy", "0" * 64),
        real=real,
    )
    (tmp_path / "sounds.html").write_text(gallery_page(report, first.exhibits, tagger), encoding="utf-8")  # type: ignore[arg-type]
    page.open(tmp_path / "sounds.html")
    assert page.errors == [] and page.addresses == [(tmp_path / "sounds.html").resolve().as_uri()]
    assert page.run("[...document.querySelectorAll('h4')].map(h => h.textContent)") == [
        p.text for p in prompts
    ]
    assert page.run("[...document.querySelectorAll('h2')].map(h => h.textContent)") == ["plain", "two"]
    assert page.run("document.querySelectorAll('b, img[src=x]').length") == 0
    length = page.run("""new Promise((done, failed) => {
      const player = document.querySelector("audio");
      player.addEventListener("ended", () => done(player.currentTime));
      player.addEventListener("error", () => failed(player.error.message));
      player.play();
    })""")
    assert 0.9 < length < 1.2


def test_mp3_says_what_it_cannot_hold() -> None:
    with pytest.raises(DataError, match="MP3 cannot hold 1 channels at 7000 Hz"):
        mp3_bytes(Audio(np.zeros((1, 700), np.float32), 7000))
