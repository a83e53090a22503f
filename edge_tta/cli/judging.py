"""What the verbs that judge have in common: a bar while they work, and the report at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error, gone when the work is done; it is moved by (what is done, items done, items in all)."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total)


def show_report(report: Any, markdown: Callable[[Any], str], output: Path, json_output: bool) -> None:
    """Print a report as JSON, or as text with the folder it was written to.

    Args:
        report: dataclass of a judge.
        markdown: makes its text.
        output: folder that has it as files.
        json_output: whether to print JSON.
    """
    from rich.console import Console
    from rich.markdown import Markdown

    from edge_tta.evaluate.report import report_json

    if json_output:
        typer.echo(report_json(report), nl=False)
    else:
        Console().print(Markdown(markdown(report)))
        typer.echo(f"Written to {output}")
