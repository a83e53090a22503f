"""One tree of errors: whatever a user can cause ends here, as one clear line and an exit code."""

from __future__ import annotations


class EdgeTTAError(Exception):
    """Base of every error this package raises on purpose; ``exit_code`` is what the CLI returns."""

    exit_code = 1


class RequestError(EdgeTTAError):
    """A generation request that cannot be served: the message names field, value and allowed range."""

    exit_code = 2


class ConfigError(EdgeTTAError):
    """A configuration or recipe that does not parse: unknown key, wrong type, value out of range."""

    exit_code = 2


class MissingExtraError(EdgeTTAError):
    """An optional dependency is absent.

    Args:
        extra: name of the extra in ``pyproject.toml`` that brings the dependency.
        purpose: what the caller wanted to do, as a noun phrase ("training").
    """

    exit_code = 2

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the '{extra}' extra: pip install 'edge-tta[{extra}]'")
        self.extra, self.purpose = extra, purpose

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        # An exception is copied to another process by its message alone, which is not what this one is made of.
        return type(self), (self.extra, self.purpose)


class OutputError(EdgeTTAError):
    """The requested output cannot be written (no permission, disk full, wrong suffix)."""

    exit_code = 2


class DataError(EdgeTTAError):
    """Training or evaluation data that cannot be used; names the file and the reason."""

    exit_code = 2


class BundleError(EdgeTTAError):
    """A bundle that is damaged, hostile or of an unknown schema; names the file and the reason."""

    exit_code = 3


class BackendError(EdgeTTAError):
    """A runtime backend failed; names stage and backend."""

    exit_code = 4


class GateError(EdgeTTAError):
    """A model misses a limit that it must keep, or was not measured where it had to be."""

    exit_code = 5


class TrainingError(EdgeTTAError):
    """Training cannot go on (divergence, too many non-finite steps, no usable checkpoint)."""

    exit_code = 1


class Cancelled(EdgeTTAError):
    """The caller asked to stop between two stages."""

    exit_code = 130


def interrupt_behind(
    error: BaseException | None, handled: BaseException | None = None
) -> BaseException | None:
    """The interrupt (``KeyboardInterrupt`` or a signal's own) that an error was made of; None if there is none.

    Native packages that are interrupted while they are imported report a failed import, the interrupt being its cause.

    Args:
        error: what arrived.
        handled: what was being handled before; it and what is behind it have nothing to do with ``error``.
    """
    seen: set[int] = set()
    while error is not None and error is not handled and id(error) not in seen:
        if not isinstance(error, (Exception, SystemExit, GeneratorExit)):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
