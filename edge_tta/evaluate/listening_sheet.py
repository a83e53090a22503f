"""The sheet of a blind listening test: one page to listen with, and a key that is kept from listeners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_tta.audio import Audio
from edge_tta.bundle import Bundle
from edge_tta.errors import ConfigError
from edge_tta.evaluate.html import Markup, document, element
from edge_tta.evaluate.listening import ListeningKey, Trial
from edge_tta.evaluate.parity import Item, choose_prompts, make_items
from edge_tta.evaluate.parity_pairs import player
from edge_tta.evaluate.parity_sources import DEFAULT_PROMPTS, open_reference, read_suites
from edge_tta.files import make_folder, write_file
from edge_tta.runtime import TextToAudio
from edge_tta.runtime.backend import LoadedModel, load_variant
from edge_tta.runtime.pipeline import checked_threads

CHOICES = (("a", "A"), ("b", "B"), ("same", "I hear no difference"))


@dataclass(frozen=True)
class ListeningOptions:
    """What is played to listeners."""

    variant: str | None = None
    """Variant of the bundle; None for the first int8 one."""
    reference: str | None = None
    """As in ``ValidationOptions``."""
    prompts: tuple[str, ...] = DEFAULT_PROMPTS
    pairs: int = 20
    """Pairs of reference and variant."""
    controls: int = 5
    """Pairs of one sound with itself, which nobody can tell apart."""
    first_seed: int = 0
    order_seed: int = 0
    """Decides order and sides."""
    seconds: float = 5.0
    steps: int = 1
    guidance: float | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("pairs", 1, 200), ("controls", 0, 100)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(
                    f"{name} {getattr(self, name)} is out of range: allowed are {low} to {high}"
                )


def make_listening_test(
    source: str | Path | None,
    output: Path,
    options: ListeningOptions | None = None,
    *,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> ListeningKey:
    """Make the sounds and write ``listening.html`` and ``key.json``.

    Args:
        source: bundle folder or name, None for the default one.
        output: folder for both.
        options: what is played.
        on_progress: called with what is being made, and sounds made and in all.

    Raises:
        BundleError, BackendError, ConfigError, DataError, RequestError, OutputError, MissingExtraError: as the parts
            say.
    """
    options = options or ListeningOptions()
    everything = read_suites(options.prompts)
    wanted = options.pairs + options.controls
    if wanted > len(everything):
        raise ConfigError(f"{wanted} pairs need as many prompts; the lists have {len(everything)}")
    items = make_items(
        choose_prompts(everything, wanted),
        1,
        options.first_seed,
        seconds=options.seconds,
        steps=options.steps,
        guidance=options.guidance,
    )
    bundle = Bundle.open(source)
    variant = _choose_variant(bundle, options.variant)
    threads = checked_threads(options.threads)
    reference, model = open_reference(bundle, options.reference, threads)
    if reference == variant:
        model.backend.close()
        raise ConfigError(f"reference and variant are both {variant}: there is nothing to compare")
    sounds: dict[str, list[Audio]] = {}

    def make(side: str, name: str, loaded: LoadedModel) -> None:
        try:
            made = sounds[side] = []
            for item in items:
                made.append(TextToAudio(loaded).generate(item.request).audio)
                if on_progress is not None:
                    on_progress(name, sum(map(len, sounds.values())), 2 * len(items))
        finally:
            loaded.backend.close()

    make("reference", reference, model)
    make("variant", variant, load_variant(bundle, variant, threads))
    order, trials = _shuffle(items, options)
    key = ListeningKey(
        schema="listening-key/1",
        bundle=bundle.manifest.name,
        bundle_digest=bundle.digest,
        reference=reference,
        variant=variant,
        order_seed=options.order_seed,
        trials=trials,
    )
    cards = [
        _card(number, trial, sounds[trial.a][place], sounds[trial.b][place], len(trials))
        for number, (place, trial) in enumerate(zip(order, trials, strict=True), 1)
    ]
    make_folder(output)
    write_file(output / "key.json", (key.model_dump_json(by_alias=True, indent=1) + "\n").encode())
    write_file(output / "listening.html", _page(key, cards).encode())
    return key


def _choose_variant(bundle: Bundle, name: str | None) -> str:
    if name is None:
        chosen = next(
            (n for n, variant in sorted(bundle.variants.items()) if variant.precision == "int8"), None
        )
        if chosen is None:
            raise ConfigError(
                f"{bundle.name} has no int8 variant; name one of {', '.join(sorted(bundle.variants))}"
            )
        return chosen
    if name not in bundle.variants:
        raise ConfigError(
            f"{bundle.name} has no variant '{name[:80]}'; it has {', '.join(sorted(bundle.variants))}"
        )
    return name


def _shuffle(items: list[Item], options: ListeningOptions) -> tuple[list[int], list[Trial]]:
    """Places of the items in the order in which they are played, and what is on either side."""
    generator = np.random.default_rng(options.order_seed)
    controls = set(generator.permutation(len(items))[: options.controls].tolist())
    order = generator.permutation(len(items)).tolist()
    trials = []
    for place in order:
        item = items[place]
        turned = bool(generator.integers(2))
        sides: tuple[str, str] = ("variant", "reference") if turned else ("reference", "variant")
        if place in controls:
            sides = sides[0], sides[0]
        trials.append(
            Trial.model_validate(
                {"prompt": item.prompt.text, "seed": item.request.seed, "a": sides[0], "b": sides[1]}
            )
        )
    return order, trials


def _page(key: ListeningKey, cards: list[Markup]) -> str:
    head = element(
        "header",
        element("p", "edge_tta listening test", class_="kicker"),
        element("h1", "Which of two sounds is better?"),
        element(
            "p",
            f"{len(cards)} pairs of sounds, each made from the text above it. Play A and B as often as you like, with "
            "headphones if you have some, and choose the better one, or that you hear no difference. Some pairs are "
            "the same sound twice. Answers stay on this machine until you save them as a file.",
        ),
    )
    bar = element(
        "div",
        element("p", f"0 of {len(cards)} answered", id="progress", role="status"),
        element("button", "Save answers", type="button", id="save", class_="button main"),
        class_="bar",
    )
    field = element("input", type="text", id="listener", maxlength=100)
    name = element("label", "Your name or initials", field, class_="field")
    form = element("form", name, *cards, bar, id="sheet", data_test=key.test, autocomplete="off")
    return document("Listening test", element("main", head, form), scripts=("players.js", "listening.js"))


def _card(number: int, trial: Trial, first: Audio, second: Audio, count: int) -> Markup:
    name = f"pair {number}"
    options = [
        element("label", element("input", type="radio", name=f"trial-{number}", value=value), text)
        for value, text in CHOICES
    ]
    views = [
        element("figure", element("figcaption", side), player(audio, f"{side} of {name}"))
        for side, audio in (("A", first), ("B", second))
    ]
    return element(
        "article",
        element("p", f"Pair {number} of {count}", class_="kicker"),
        element("h2", trial.prompt),
        element("div", *views, class_="sides"),
        element("button", "Switch sides here", type="button", class_="button switch"),
        element("fieldset", element("legend", "Better:"), element("div", *options, class_="choices")),
        class_="pair trial",
    )
