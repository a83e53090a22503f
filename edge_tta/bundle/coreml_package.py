"""Core ML packages: a directory of exactly three files, whose contents are checked before Core ML sees them.

Core ML opens a directory by its path and follows what it finds there. So the manifest of a bundle names every file of a
package, the list inside the package must be the one that every package has, and the program may take weights from the
package's own weight file alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edge_tta.bundle.canonical import parse_document
from edge_tta.bundle.wire import Fields, Malformed, as_message, as_number, as_text
from edge_tta.errors import BundleError

PACKAGE_SUFFIX = ".mlpackage"
MODEL_FILE = "Data/com.apple.CoreML/model.mlmodel"
WEIGHT_FILE = "Data/com.apple.CoreML/weights/weight.bin"
PACKAGE_MANIFEST = "Manifest.json"
COMPANIONS = (PACKAGE_MANIFEST, WEIGHT_FILE)
"""What a package holds besides the program."""
WEIGHT_REFERENCE = "@model_path/weights/weight.bin"
"""How a program names its weight file."""
MAX_SPECIFICATION = 9
"""Of macOS 15 and iOS 18; later ones may mean things that are not checked here."""
_ITEMS = {"com.apple.CoreML/model.mlmodel", "com.apple.CoreML/weights"}
_ITEM_KEYS = {"author", "description", "name", "path"}

FORBIDDEN_OPERATIONS = frozenset({"custom_layer", "while_loop", "cond", "call"})
"""Code of others, unbounded work, and what is not needed for networks like these."""


def package_of(file: str) -> str:
    """Directory of the package that a program belongs to.

    Raises:
        ValueError: the path is not that of a program in a package.
    """
    package = file.removesuffix(f"/{MODEL_FILE}")
    if package == file or not package.endswith(PACKAGE_SUFFIX):
        raise ValueError(
            f"'{file}': a Core ML graph is {MODEL_FILE} of a package that ends in {PACKAGE_SUFFIX}"
        )
    return package


def check_companions(programs: Iterable[str], companions: Iterable[str]) -> None:
    """Every package is described whole, and nothing is described that belongs to none.

    Raises:
        ValueError: names a file that is missing or does not belong.
    """
    needed = {f"{package_of(program)}/{name}" for program in programs for name in COMPANIONS}
    described = set(companions)
    if difference := needed ^ described:
        name = min(difference)
        raise ValueError(f"'{name}' is {'missing' if name in needed else 'no part of a package'}")


def inspect_package_file(name: str, data: bytes) -> None:
    """Refuse a file of a package that could reach outside it or that holds anything but a program.

    Args:
        name: path in the bundle; files outside packages are not looked at.
        data: the whole file.

    Raises:
        BundleError: names the file and the reason.
    """
    try:
        if name.endswith(f"{PACKAGE_SUFFIX}/{PACKAGE_MANIFEST}"):
            _inspect_manifest(data)
        elif name.endswith(f"{PACKAGE_SUFFIX}/{MODEL_FILE}"):
            _Inspector().model(memoryview(data))
    except ValueError as error:
        raise BundleError(f"{name}: not an acceptable Core ML package ({error})") from None


def _inspect_manifest(data: bytes) -> None:
    document = parse_document(data)
    items = document.get("itemInfoEntries")
    if not isinstance(items, dict) or set(document) != {
        "fileFormatVersion",
        "itemInfoEntries",
        "rootModelIdentifier",
    }:
        raise ValueError("its list of items has other fields")
    for item in items.values():
        if not isinstance(item, dict) or set(item) != _ITEM_KEYS:
            raise ValueError("an item has other fields")
    if sorted(str(item["path"]) for item in items.values()) != sorted(_ITEMS):
        raise ValueError(f"its items are not {' and '.join(sorted(_ITEMS))}")
    if items.get(str(document["rootModelIdentifier"]), {}).get("path") != "com.apple.CoreML/model.mlmodel":
        raise ValueError("its root is not the program")


class _Inspector:
    """Reads Model.proto and MIL.proto of the Core ML format as far as a program can hold something dangerous."""

    def __init__(self) -> None:
        self._fields = Fields()

    def model(self, data: memoryview) -> None:
        programs = 0
        for number, value in self._fields.read(data):
            if number == 1 and as_number(value) > MAX_SPECIFICATION:
                raise Malformed(f"specification version {value} is newer than {MAX_SPECIFICATION}")
            if number == 10 and value != 0:
                raise Malformed("updatable models are not allowed")
            if number == 502:
                programs += 1
                self.program(as_message(value))
            elif number not in (1, 2, 10):
                raise Malformed(f"a model of kind {number} is not allowed, only programs are")
        if programs != 1:
            raise Malformed(f"{programs} programs instead of one")

    def program(self, data: memoryview) -> None:
        for number, value in self._fields.read(data):
            if number == 2:
                self.entry(as_message(value), self.function)
            elif number not in (1, 3, 4):
                raise Malformed(f"unknown field {number} of a program")

    def function(self, data: memoryview) -> None:
        for number, value in self._fields.read(data):
            if number == 3:
                self.entry(as_message(value), self.block)
            elif number not in (1, 2, 4):
                raise Malformed(f"unknown field {number} of a function")

    def block(self, data: memoryview) -> None:
        for number, value in self._fields.read(data):
            if number == 3:
                self.operation(as_message(value))
            elif number not in (1, 2, 4):
                raise Malformed(f"unknown field {number} of a block")

    def operation(self, data: memoryview) -> None:
        for number, value in self._fields.read(data):
            if number == 1 and (kind := as_text(value)) in FORBIDDEN_OPERATIONS:
                raise Malformed(f"operation {kind} is not allowed")
            if number == 4:
                raise Malformed("operations with blocks are not allowed")
            if number == 2:
                self.entry(as_message(value), self.argument)
            elif number == 5:
                self.entry(as_message(value), self.value)
            elif number not in (1, 3):
                raise Malformed(f"unknown field {number} of an operation")

    def argument(self, data: memoryview) -> None:
        for number, binding in self._fields.read(data):
            if number != 1:
                raise Malformed(f"unknown field {number} of an argument")
            for kind, value in self._fields.read(as_message(binding)):
                if kind == 2:
                    self.value(as_message(value))
                elif kind != 1:
                    raise Malformed(f"unknown field {kind} of a binding")

    def value(self, data: memoryview) -> None:
        for number, value in self._fields.read(data):
            if number == 5:
                for kind, part in self._fields.read(as_message(value)):
                    if kind == 1 and (name := as_text(part)) != WEIGHT_REFERENCE:
                        raise Malformed(f"weights in {name!r} are not allowed, only in {WEIGHT_REFERENCE}")
            elif number not in (1, 2, 3):
                raise Malformed(f"unknown field {number} of a value")

    def entry(self, data: memoryview, visit: Callable[[memoryview], None]) -> None:
        """One entry of a map: key and value."""
        for number, value in self._fields.read(data):
            if number == 2:
                visit(as_message(value))
            elif number != 1:
                raise Malformed(f"unknown field {number} of a map")
