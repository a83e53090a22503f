"""Commands in the documentation are real: make targets, verbs and options exist, links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def lines_of_shell(text: str) -> list[str]:
    """Command lines of the fenced blocks that hold shell, without prompts and with continuations joined."""
    joined = "\n".join(
        body for kind, body in FENCE.findall(text) if kind in ("", "bash", "console", "sh", "shell")
    )
    return [line.removeprefix("$ ").strip() for line in joined.replace("\\\n", " ").splitlines()]


def commands(program: str) -> list[tuple[str, list[str]]]:
    """(document, arguments) of every literal call of a program; synopses with brackets are no commands."""
    found = []
    for document in DOCUMENTS:
        for line in lines_of_shell(document.read_text("utf-8")):
            if line.startswith(f"{program} ") and not re.search(r"[\[\]<>|]", line):
                words = shlex.split(line, comments=True)
                found.append((str(document.relative_to(ROOT)), words[1:]))
    return found


GROUPS = ("listen", "quantize", "recipes")
"""Verbs that have verbs of their own."""


@cache
def help_text(*verbs: str) -> str:
    """Help page of a verb, or of a verb of a group; an unknown one fails."""
    code = "from edge_tta.cli.start import main; main()"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-c", code, *verbs, "--help"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, f"edge-tta {' '.join(verbs)}: {result.stderr}"
    return result.stdout


def test_readme_leads_with_the_two_commands() -> None:
    calls = [arguments for document, arguments in commands("make") if document == "README.md"]
    assert ["generate", "PROMPT=rain on a tin roof"] in calls
    assert ["test"] in calls


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z][a-z\-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    calls = commands("make")
    missing = [
        (document, word)
        for document, arguments in calls
        for word in arguments
        if "=" not in word and not word.startswith("-") and word not in targets
    ]
    assert calls
    assert missing == []


def test_verbs_and_options_exist() -> None:
    calls = [(document, words) for document, words in commands("edge-tta") if not words[0].startswith("-")]
    assert calls
    missing = []
    for document, words in calls:
        page = help_text(*words[: 2 if words[0] in GROUPS else 1])
        options = [word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)]
        missing += [
            (document, words[0], name) for name in options if not re.search(rf"(?<!\S){name}\b", page)
        ]
    assert missing == []


VERBS_NEED = {
    "export": {"export"}, "quantize": {"export"}, "validate": {"eval"}, "evaluate": {"eval"}, "listen": {"eval"},
    "evaluate-codec": {"eval"}, "evaluate-novelty": {"eval"}, "train": {"train"}, "couples": {"train"},
    "recipes": {"train"}, "reconstruct": {"train"},
}  # fmt: skip
"""Extras of the verbs that the core install does not run; targets of other runtimes need theirs as well."""


def test_what_follows_an_installation_runs_with_it() -> None:
    extras = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    )
    followed, lacking = 0, []
    for document in DOCUMENTS:
        installed: set[str] | None = None
        for words in (
            shlex.split(line, comments=True)
            for line in lines_of_shell(document.read_text("utf-8"))
            if line.startswith(("pip install", "edge-tta "))
        ):
            if words[0] == "pip":
                listed = re.search(r"\[(.*)\]", words[-1])
                installed = set(listed[1].split(",")) if listed else set()
                assert installed <= extras, document.name
            elif installed is not None and not {"all", "dev"} & installed:
                followed += 1
                needed = VERBS_NEED.get(words[1], set()) | (
                    extras & {word.partition("-")[0] for word in words}
                )
                if not needed <= installed:
                    lacking.append((document.name, " ".join(words), sorted(needed - installed)))
    assert followed >= 6
    assert lacking == []


def test_the_table_of_extras_is_that_of_the_project() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    table = re.findall(
        r"^\| `edge-tta\[(\w+)\]` \| (.+) \|$", (ROOT / "docs/quickstart.md").read_text("utf-8"), re.M
    )
    assert [name for name, _ in table] == list(extras)
    ((combined,),) = [re.findall(r"\[(.*)\]", extras["all"][0])]
    assert set(combined.split(",")) == set(extras) - {"all", "dev"} and len(extras["all"]) == 1
    number = {3: "three", 4: "four", 5: "five", 6: "six", 7: "seven"}[len(extras) - 2]
    assert dict(table)["all"] == f"all {number}"
    assert dict(table)["dev"].startswith(f"all {number} and ") and "edge-tta[all]" in extras["dev"]


def test_an_unknown_verb_is_a_usage_error() -> None:
    with pytest.raises(AssertionError, match="no-such-verb"):
        help_text("no-such-verb")


def test_links_lead_somewhere() -> None:
    broken = []
    for document in DOCUMENTS:
        for target in LINK.findall(document.read_text("utf-8")):
            if (
                not target.startswith(("http://", "https://", "mailto:"))
                and not (document.parent / target).exists()
            ):
                broken.append((str(document.relative_to(ROOT)), target))
    assert broken == []


def test_decisions_are_short_and_complete() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert records
    assert [path.name[:4] for path in records] == [f"{number:04d}" for number in range(1, len(records) + 1)]
    for path in records:
        text = path.read_text("utf-8")
        assert all(f"\n## {part}\n" in text for part in ("Context", "Decision", "Consequences")), path.name
        assert len(text.split()) <= 600, f"{path.name} is longer than a page"
