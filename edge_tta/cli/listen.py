"""``edge-tta listen``: a blind listening test of a variant against the float model, and its score."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_tta.cli.options import BundleArgument, PromptLists, Quiet, ReferenceModel, SoundSeconds

if TYPE_CHECKING:
    from edge_tta.evaluate.listening import ListeningScore

app = typer.Typer(help="Make a blind listening test, or score its answers.", rich_markup_mode=None)


@app.command("make")
def make(
    bundle: BundleArgument = None,
    variant: Annotated[
        str | None, typer.Option(help="Variant to judge; the first int8 one by default.", show_default=False)
    ] = None,
    reference: ReferenceModel = None,
    prompts: PromptLists = None,
    pairs: Annotated[int, typer.Option(help="Pairs of both models.", min=1, max=200)] = 20,
    controls: Annotated[int, typer.Option(help="Hidden pairs of one sound with itself.", min=0, max=100)] = 5,
    seconds: SoundSeconds = 5.0,
    order_seed: Annotated[
        int | None, typer.Option(help="Decides order and sides; drawn by default.", min=0, show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for page and key.")] = Path(
        "listening"
    ),
    json_output: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a page with pairs of sounds to be judged blindly, and the key that is kept from listeners."""
    import secrets

    from edge_tta.cli.console import say, say_json
    from edge_tta.cli.extras import require
    from edge_tta.cli.progress import shown_progress

    for package in ("PIL", "pyloudnorm", "scipy"):
        require(package, "eval", "a listening test")
    from edge_tta.evaluate.listening_sheet import ListeningOptions, make_listening_test
    from edge_tta.evaluate.parity_sources import DEFAULT_PROMPTS

    options = ListeningOptions(
        variant=variant,
        reference=reference,
        prompts=tuple(prompts or DEFAULT_PROMPTS),
        pairs=pairs,
        controls=controls,
        seconds=seconds,
        order_seed=secrets.randbelow(2**32) if order_seed is None else order_seed,
    )
    with shown_progress(quiet) as report_progress:
        key = make_listening_test(bundle, output, options, on_progress=report_progress)
    page, kept = output / "listening.html", output / "key.json"
    if json_output:
        say_json({"schema": "listen-make/1", "test": key.test, "page": str(page), "key": str(kept)})
    else:
        say(f"{page}: {pairs} pairs of {key.reference} and {key.variant}, {controls} of a sound with itself")
        say(f"{kept}: what is behind A and B; keep it from listeners")


@app.command("score")
def score(
    answers: Annotated[list[Path], typer.Argument(help="Files that listeners saved.")],
    key: Annotated[Path, typer.Option(help="Key of the test.")] = Path("listening/key.json"),
    json_output: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Score saved answers: was a difference heard, and which side was preferred."""
    from dataclasses import asdict

    from edge_tta.cli.console import say, say_json
    from edge_tta.evaluate.listening import ListeningAnswers, ListeningKey, read_document
    from edge_tta.evaluate.listening import score as score_answers

    opened = read_document(ListeningKey, key)
    scores = score_answers(opened, [read_document(ListeningAnswers, path) for path in answers])
    if json_output:
        say_json(
            {
                "schema": "listen-score/1",
                "test": opened.test,
                "reference": opened.reference,
                "variant": opened.variant,
                "scores": [asdict(found) for found in scores],
            }
        )
        return
    for found in scores:
        for line in _lines(found, opened.variant, opened.reference):
            say(line)


def _lines(found: ListeningScore, variant: str, reference: str) -> list[str]:
    from edge_tta.evaluate.statistics import Estimate

    def share(estimate: Estimate | None) -> str:
        if estimate is None:
            return "not answered"
        hits = round(estimate.value * estimate.n)
        return (
            f"{hits} of {estimate.n} ({100 * estimate.value:.0f} %, 95 % interval {100 * estimate.low:.0f} to "
            f"{100 * estimate.high:.0f} %)"
        )

    lines = [
        found.listener,
        f"  a difference was heard: {share(found.noticed)}",
        f"  and in identical pairs: {share(found.imagined)}",
    ]
    if found.variant_preferred is not None and found.sign_test is not None:
        lines.append(f"  {variant} preferred to {reference}: {share(found.variant_preferred)}")
        lines.append(f"  sign test: p = {found.sign_test:.3g}")
    return lines
