"""The verbs, and the group of commands that they make."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from edge_tta.cli import (
    bench,
    couples,
    doctor,
    evaluate,
    evaluate_codec,
    evaluate_novelty,
    export,
    generate,
    info,
    listen,
    quantize,
    recipes,
    reconstruct,
    train,
    validate,
    verify,
)
from edge_tta.cli.console import lost_output, say
from edge_tta.cli.extras import own_version
from edge_tta.cli.failures import exit_code_of
from edge_tta.cli.start import Terminated
from edge_tta.errors import Cancelled


class _OneLineGroup(TyperGroup):
    """Reports every expected failure as one line on standard error."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a verb; see ``typer.core.TyperGroup.main``."""
        if not options.get("standalone_mode", True):
            return super().main(*args, **options)
        sys.exit(self._run(*args, **options | {"standalone_mode": False}))

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Read the command line; see ``typer.core.TyperGroup.make_context``."""
        with _past_typer():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; see ``typer.core.TyperGroup.invoke``."""
        with _past_typer():
            return super().invoke(ctx)

    def _run(self, *args: Any, **options: Any) -> int:
        try:
            code = super().main(*args, **options)
            return code if isinstance(code, int) else 0
        except (Exception, KeyboardInterrupt, Terminated) as error:
            return exit_code_of(error)


@contextmanager
def _past_typer() -> Iterator[None]:
    """Interrupts and lost readers become errors like any other, because typer would end without a word."""
    try:
        yield
    except KeyboardInterrupt:
        raise Cancelled("cancelled") from None
    except BrokenPipeError as error:
        raise lost_output(error) from error


app = typer.Typer(
    name="edge-tta",
    cls=_OneLineGroup,
    help="Text to audio on the device.",
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is decided on the way.")] = False,
) -> None:
    if version:
        say(own_version())
        raise typer.Exit
    if context.invoked_subcommand is None:
        say(context.get_help())
    if verbose:
        import logging

        logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(name)s: %(message)s")


app.command("generate")(generate.generate)
app.command("info")(info.info)
app.command("verify")(verify.verify)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)
app.command("reconstruct")(reconstruct.reconstruct)
app.command("train")(train.train)
app.command("couples")(couples.couples)
app.add_typer(recipes.app, name="recipes")
app.command("export")(export.export)
app.command("validate")(validate.validate)
app.add_typer(quantize.app, name="quantize")
app.add_typer(listen.app, name="listen")
app.command("evaluate")(evaluate.evaluate)
app.command("evaluate-codec")(evaluate_codec.evaluate_codec)
app.command("evaluate-novelty")(evaluate_novelty.evaluate_novelty)
