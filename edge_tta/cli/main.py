"""Entry point: the verbs, and how every failure becomes one line and an exit code.

Exit codes: 0 done, 1 failed, 2 usage or request, 3 bundle, 4 backend, 5 gate, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated, Any, NoReturn

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
from edge_tta.cli.console import note, say
from edge_tta.cli.extras import extra_of, own_version
from edge_tta.errors import Cancelled, EdgeTTAError, MissingExtraError

INTERRUPTED, TERMINATED = 130, 143


class Terminated(BaseException):
    """SIGTERM arrived; unwinds the stack so that temporary files are removed."""


class _OneLineGroup(TyperGroup):
    """Reports every expected failure as one line on standard error."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a verb; see ``typer.core.TyperGroup.main``."""
        if not options.get("standalone_mode", True):
            return super().main(*args, **options)
        sys.exit(self._run(*args, **options | {"standalone_mode": False}))

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; an interrupt becomes an error like any other, because typer would swallow it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Cancelled("cancelled") from None

    def _run(self, *args: Any, **options: Any) -> int:
        try:
            code = super().main(*args, **options)
            return code if isinstance(code, int) else 0
        except EdgeTTAError as error:
            return _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            return _fail("cancelled", INTERRUPTED)
        except Terminated:
            return _fail("terminated", TERMINATED)
        except MemoryError:
            return _fail("not enough memory", 4)
        except ModuleNotFoundError as error:
            brought_by = extra_of((error.name or "").split(".")[0])
            if brought_by is None:
                raise
            return _fail(str(MissingExtraError(brought_by, f"this command (package {error.name})")), 2)
        except Exception as error:
            # Typer carries its own copy of click and exports only part of its exceptions.
            if not hasattr(error, "format_message"):
                raise
            context = getattr(error, "ctx", None)
            hint = f" (see {context.command_path} --help)" if context is not None else ""
            return _fail(f"{error.format_message()}{hint}", getattr(error, "exit_code", 2))


def _fail(message: str, code: int) -> int:
    note("edge-tta: " + " ".join(message.split()))
    return code


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


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def main() -> None:
    """The console script ``edge-tta``."""
    signal.signal(signal.SIGTERM, _terminate)
    app(prog_name="edge-tta")
