"""Rules every file of the repository keeps: no unsafe calls, no leftovers, no machine's own paths, no huge files."""

from __future__ import annotations

import ast
import re
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("edge_tta", "quantization", "export")
MAX_LINES = 500
MAX_TEXT_BYTES = 256 * 1024
MAX_FILE_BYTES = 50_000_000
LARGE_FOLDERS = (
    "checkpoints/",
    "edge_tta/assets/",
    "docs/reports/",
    "edge_tta/train/data/wordings.csv",
    "tests/data/",
    "tests/golden/edge-tiny-executorch/",
)
TEXT_SUFFIXES = {
    ".py",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".json",
    ".csv",
    ".txt",
    ".cfg",
    ".html",
    ".js",
    ".kt",
    ".kts",
    "",
}

LEFTOVER = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "NotImplemented" + "Error")))
MACHINE_PATH = re.compile(r"(?<![\w.:/\-])/(?:home|root|Users|work|opt|mnt|tmp)/[\w.\-]")
HOST = re.compile(r"https?://([\w.\-]+)")
KNOWN_HOSTS = {
    "arxiv.org",
    "creativecommons.org",
    "doi.org",
    "github.com",
    "opensource.org",
    "www.apache.org",
}
"""Papers, licences and sources that code may cite; none of them is ever contacted."""
NETWORK_MODULES = {
    "aiohttp",
    "ftplib",
    "http",
    "httpx",
    "huggingface_hub",
    "requests",
    "smtplib",
    "socket",
    "urllib",
    "urllib3",
    "xmlrpc",
}
PICKLE_MODULES = {"cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
NUMPY_RANDOM_ALLOWED = {"Generator", "PCG64", "Philox", "SeedSequence", "default_rng"}


@cache
def tracked() -> tuple[str, ...]:
    """Paths git keeps, relative to the root; files deleted in the working tree are left out."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    return tuple(name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file())


def python_files(*folders: str) -> list[str]:
    """Tracked Python files below the folders, or all."""
    return [
        name for name in tracked() if name.endswith(".py") and (not folders or name.split("/")[0] in folders)
    ]


def text_files() -> list[str]:
    """Tracked files people read or write."""
    return [name for name in tracked() if Path(name).suffix in TEXT_SUFFIXES]


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of an attribute chain, or an empty string for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def keyword(call: ast.Call, name: str) -> object:
    """Constant value of a keyword argument; None if absent or computed."""
    for argument in call.keywords:
        if argument.arg == name and isinstance(argument.value, ast.Constant):
            return argument.value.value
    return None


def imported(node: ast.AST) -> list[str]:
    """Modules an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [node.module or ""]
    return []


def call_fault(call: ast.Call) -> str | None:
    """Why a call is banned, or None."""
    name = dotted(call.func)
    last = name.rpartition(".")[2] or (call.func.attr if isinstance(call.func, ast.Attribute) else "")
    if name in ("eval", "exec"):
        return f"{name}() runs text as code"
    if name in ("yaml.load", "yaml.unsafe_load", "tempfile.mktemp", "os.system", "os.popen"):
        return f"{name}() is unsafe"
    if last == "load" and keyword(call, "allow_pickle"):
        return "allow_pickle=True executes what a file says"
    if name == "torch.load" and keyword(call, "weights_only") is not True:
        return "torch.load without weights_only=True executes what a file says"
    if last in ("extractall", "unpack_archive") and keyword(call, "filter") is None:
        return f"{last}() without a filter writes where an archive says"
    if keyword(call, "shell") is True:
        return "shell=True runs text as code"
    if re.fullmatch(r"(np|numpy)\.random\.\w+", name) and last not in NUMPY_RANDOM_ALLOWED:
        return f"{name}() uses the global generator; pass a numpy.random.Generator"
    if name in ("random.seed", "torch.manual_seed", "torch.random.manual_seed", "torch.cuda.manual_seed_all"):
        return f"{name}() changes a global generator; pass a torch.Generator"
    return None


def inside_forked_generator(tree: ast.AST) -> set[ast.AST]:
    """Nodes inside ``with torch.random.fork_rng()``, where seeding the global generator leaves no trace."""
    return {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.With)
        and any(
            isinstance(item.context_expr, ast.Call)
            and dotted(item.context_expr.func) == "torch.random.fork_rng"
            for item in block.items
        )
        for node in ast.walk(block)
    }


def faults(source: str, library: bool) -> Iterator[str]:
    """What a Python file does that no file here may do; ``library`` adds the rules for the three packages."""
    tree = ast.parse(source)
    forked = inside_forked_generator(tree)
    for node in ast.walk(tree):
        for module in imported(node):
            top = module.partition(".")[0]
            if top in PICKLE_MODULES:
                yield f"line {node.lineno}: {module} executes what a file says"  # type: ignore[attr-defined]
            if library and top in NETWORK_MODULES:
                yield f"line {node.lineno}: {module} reaches for the network"  # type: ignore[attr-defined]
        if isinstance(node, ast.Call):
            fault = call_fault(node)
            if fault and not ("global generator" in fault and (node in forked or not library)):
                yield f"line {node.lineno}: {fault}"
            if library and dotted(node.func) == "print":
                yield f"line {node.lineno}: a library never prints"
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"line {node.lineno}: bare except"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "exec('x = 1')",
        "yaml.load(text)",
        "tempfile.mktemp()",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "tarfile.open(path).extractall(folder)",
        "subprocess.run(line, shell=True)",
        "np.random.seed(0)",
        "numpy.random.randn(3)",
        "torch.manual_seed(0)",
        "try:\n    pass\nexcept:\n    pass",
        "import urllib.request",
        "from huggingface_hub import hf_hub_download",
        "print('x')",
    ],
)
def test_the_guard_sees_what_is_banned(source: str) -> None:
    assert list(faults(source, library=True))


def test_the_guard_passes_the_safe_forms() -> None:
    source = """
import numpy as np
generator = np.random.default_rng(0)
np.load(path, allow_pickle=False)
torch.load(path, weights_only=True)
archive.extractall(folder, filter="data")
model.eval()
with torch.random.fork_rng():
    torch.manual_seed(0)
try:
    pass
except ValueError:
    pass
"""
    assert list(faults(source, library=True)) == []


def test_no_file_makes_a_banned_call() -> None:
    found = []
    for name in python_files():
        library = name.split("/")[0] in PACKAGES
        is_command = name.startswith("edge_tta/cli/") or name.endswith("/__main__.py")
        seen = faults((ROOT / name).read_text("utf-8"), library)
        found += [f"{name} {fault}" for fault in seen if not (is_command and fault.endswith("never prints"))]
    assert found == []


def test_python_files_stay_readable() -> None:
    lengths = {name: len((ROOT / name).read_text("utf-8").splitlines()) for name in python_files()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_no_catch_all_modules() -> None:
    banned = {"utils.py", "util.py", "helpers.py", "helper.py", "misc.py", "common.py"}
    assert [name for name in python_files() if Path(name).name in banned] == []


def test_every_package_folder_is_a_package() -> None:
    """A folder without ``__init__.py`` would be left out of the wheel and of the import contracts."""
    folders = {str(Path(name).parent) for name in python_files(*PACKAGES)}
    assert [folder for folder in sorted(folders) if not (ROOT / folder / "__init__.py").is_file()] == []


def test_test_files_have_unique_names_and_no_packages() -> None:
    names = [Path(name).name for name in python_files("tests")]
    assert "__init__.py" not in names
    doubled = {name for name in names if names.count(name) > 1 and name != "conftest.py"}
    assert doubled == set()


def test_files_stay_small() -> None:
    sizes = {name: (ROOT / name).stat().st_size for name in tracked()}
    assert {name: size for name, size in sizes.items() if size > MAX_FILE_BYTES} == {}
    ordinary = {name: size for name, size in sizes.items() if not name.startswith(LARGE_FOLDERS)}
    assert {name: size for name, size in ordinary.items() if size > MAX_TEXT_BYTES} == {}


def test_no_links_in_the_repository() -> None:
    assert [name for name in tracked() if (ROOT / name).is_symlink()] == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (LEFTOVER, "# TO" + "DO: later"),
        (LEFTOVER, "raise NotImplemented" + "Error"),
        (MACHINE_PATH, "open('/home" + "/me/data.csv')"),
        (MACHINE_PATH, "cd /root" + "/x"),
    ],
)
def test_the_text_patterns_match(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


def test_web_addresses_are_no_machine_paths() -> None:
    assert not MACHINE_PATH.search("https://example.org/home/page and ./tmp/x and docs/work/x")


@pytest.mark.parametrize("pattern", [LEFTOVER, MACHINE_PATH], ids=["leftovers", "machine-paths"])
def test_no_text_file_contains(pattern: re.Pattern[str]) -> None:
    found = []
    for name in text_files():
        for number, line in enumerate((ROOT / name).read_text("utf-8").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{name}:{number}: {line.strip()[:100]}")
    assert found == []


def test_code_names_no_host_but_its_sources() -> None:
    """No telemetry and no download: the packages name no host except in citations."""
    hosts: dict[str, set[str]] = {}
    for name in tracked():
        if name.split("/")[0] in PACKAGES and name.endswith((".py", ".toml")):
            for host in HOST.findall((ROOT / name).read_text("utf-8")):
                hosts.setdefault(host, set()).add(name)
    assert {host: names for host, names in hosts.items() if host not in KNOWN_HOSTS} == {}


def test_toml_files_parse() -> None:
    files = [name for name in tracked() if name.endswith(".toml")]
    assert "pyproject.toml" in files
    for name in files:
        tomllib.loads((ROOT / name).read_text("utf-8"))


def test_tests_run_offline() -> None:
    """The audit hook of conftest.py refuses before a packet leaves (192.0.2.1 is reserved for documentation)."""
    with socket.socket() as connection, pytest.raises(AssertionError, match="offline"):
        connection.connect(("192.0.2.1", 80))
