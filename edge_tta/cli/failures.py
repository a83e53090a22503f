"""Every failure becomes one line on standard error and an exit code.

Exit codes: 0 done, 1 failed, 2 usage or request, 3 bundle, 4 backend, 5 gate, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

from edge_tta.cli.console import note
from edge_tta.cli.extras import extra_of
from edge_tta.cli.start import Terminated
from edge_tta.errors import EdgeTTAError, MissingExtraError, interrupt_behind

INTERRUPTED, TERMINATED = 130, 143


def exit_code_of(error: BaseException) -> int:
    """Write the line of a failure; its exit code.

    Raises:
        BaseException: the failure itself, if nobody was meant to cause it.
    """
    message, code = _line(error)
    note("edge-tta: " + " ".join(message.split()))
    return code


def _line(error: BaseException) -> tuple[str, int]:
    # Native packages that are interrupted while they are imported raise something else.
    interrupt = interrupt_behind(error)
    if isinstance(interrupt, Terminated):
        return "terminated", TERMINATED
    if isinstance(interrupt, KeyboardInterrupt):
        return "cancelled", INTERRUPTED
    if isinstance(error, EdgeTTAError):
        return str(error), error.exit_code
    if isinstance(error, MemoryError):
        return "not enough memory", 4
    if isinstance(error, ModuleNotFoundError):
        brought_by = extra_of((error.name or "").split(".")[0])
        if brought_by is not None:
            return str(MissingExtraError(brought_by, f"this command (package {error.name})")), 2
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename is not None else ""
        return f"{place}{error.strerror or error}", 2
    # Typer carries its own copy of click and exports only part of its exceptions.
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context is not None else ""
        return f"{error.format_message()}{hint}", getattr(error, "exit_code", 2)
    raise error
