"""Golden archives that run code, unpack to gigabytes or lie about their arrays."""

from __future__ import annotations

import io
import resource
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from edge_tta.bundle.golden import MAX_UNPACKED_BYTES, read_arrays
from edge_tta.errors import BundleError


class Trap:
    """Tells when it is unpickled."""

    sprung = False

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return spring, ()


def spring() -> None:
    """What a hostile pickle would run."""
    Trap.sprung = True


def array_file(header: str, body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """A ``.npy`` file with any header."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + body


def archive(*entries: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as stream:
        for name, content in entries:
            stream.writestr(name, content)
    return buffer.getvalue()


def described(shape: str, dtype: str = "<f4") -> str:
    """Header of an array, as NumPy writes it."""
    return f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}"


ONES = f"({', '.join('1' * 1200)})"
GOOD = array_file(described("(2,)"), bytes(8))


def pickled() -> bytes:
    """An archive as NumPy itself would write it, with an object that runs code."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, trap=np.array([Trap()], dtype=object))
    return buffer.getvalue()


def damaged_check() -> bytes:
    """One array whose content does not have its checksum."""
    data = bytearray(archive(("a.npy", GOOD)))
    data[data.index(b"\x93NUMPY") + len(GOOD) - 1] ^= 1
    return bytes(data)


def encrypted() -> bytes:
    """An entry that says it is encrypted."""
    data = bytearray(archive(("a.npy", GOOD)))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    return bytes(data)


def with_count(count: int) -> bytes:
    """Many empty entries."""
    return archive(*((f"a{number}.npy", GOOD) for number in range(count)))


def long_form() -> bytes:
    """The 64-bit form of the list of entries, which need not agree with the plain one."""
    data = archive(("a.npy", GOOD))
    end = data.index(b"PK\5\6")
    return data[:end] + b"PK\6\7" + bytes(16) + data[end:]


def test_an_honest_archive_is_read() -> None:
    assert read_arrays("golden.npz", archive(("a.npy", GOOD)))["a"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: b"", "entries"),
        (lambda: b"PK\5\6", "entries"),
        (lambda: b"no archive at all" * 10, "entries"),
        (lambda: archive(("a.npy", GOOD))[:-1], "entries"),
        (lambda: archive(("a.npy", GOOD))[10:], "golden.npz"),
        (lambda: archive(("a.npy", GOOD)) + b"tail", "entries"),
        (pickled, "does not hold plain numbers"),
        (lambda: archive(("a.npy", array_file(described("(10**12,)")))), "golden.npz"),
        (lambda: archive(("a.npy", array_file(described("(999999999999,)")))), "not those of shape"),
        (lambda: archive(("a.npy", array_file(described("(-1, -2)"), bytes(8)))), "header is not"),
        (lambda: archive(("a.npy", array_file(described("(3,)"), bytes(8)))), "not those of shape"),
        (lambda: archive(("a.npy", array_file(described("(1, 2, 3,)"), bytes(8)))), "not those of shape"),
        (lambda: archive(("a.npy", array_file(described(ONES), bytes(4)))), "not those of shape"),
        (lambda: archive(("a.npy", array_file(described("(1,)"), bytes(8)))), "not those of shape"),
        (lambda: archive(("a.npy", array_file(described("(True,)"), bytes(4)))), "golden.npz"),
        (lambda: archive(("a.npy", array_file(described("(1,)", "<U4"), bytes(16)))), "does not hold plain numbers"),
        (lambda: archive(("a.npy", array_file(described("(1,)", "<c8"), bytes(8)))), "does not hold plain numbers"),
        (lambda: archive(("a.npy", array_file(described("(1,)", "|V8"), bytes(8)))), "does not hold plain numbers"),
        (lambda: archive(("a.npy", array_file(described("(1,)", "|O"), bytes(8)))), "does not hold plain numbers"),
        (lambda: archive(("a.npy", array_file(described("(0,)", "<f16")))), "does not hold plain numbers"),
        (lambda: archive(("a.npy", array_file("__import__('os')"))), "header is not"),
        (lambda: archive(("a.npy", array_file("{" * 3000))), "header is not"),
        (lambda: archive(("a.npy", array_file(described("(2,)"), bytes(8), b"\x03\x00"))), "format version"),
        (lambda: archive(("a.npy", array_file(" " * 5000 + described("(2,)"), bytes(8)))), "format version"),
        (lambda: archive(("a.npy", b"")), "golden.npz"),
        (lambda: archive(("a.npy", array_file(described("(1,)"), b"\0\0\xc0\x7f"))), "NaN"),
        (lambda: archive(("a.npy", array_file(described("(1,)"), b"\0\0\x80\x7f"))), "NaN or infinite"),
        (lambda: archive(("../a.npy", GOOD)), "unexpected entry"),
        (lambda: archive(("/etc/a.npy", GOOD)), "unexpected entry"),
        (lambda: archive(("a.npy\n", GOOD)), "unexpected entry"),
        (lambda: archive(("a.txt", GOOD)), "unexpected entry"),
        (lambda: archive(("a.npy", GOOD), ("a.npy", GOOD)), "twice"),
        (lambda: with_count(65), "unexpected entry"),
        (lambda: with_count(5000), "too many entries"),
        (damaged_check, "CRC"),
        (encrypted, "golden.npz"),
        (long_form, "64-bit"),
        (lambda: archive(("a.npy", GOOD), compression=zipfile.ZIP_LZMA)[:-60] + bytes(60), "entries"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archive_that_lies(make: Callable[[], bytes], word: str) -> None:
    data = make()
    started = time.process_time()
    with pytest.raises(BundleError, match=word) as caught:
        read_arrays("golden.npz", data)
    assert time.process_time() - started < 1.0
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400
    assert not Trap.sprung


def test_the_trap_works() -> None:
    """Without protection the pickle above does run, so the test above can fail."""
    buffer = io.BytesIO(pickled())
    with zipfile.ZipFile(buffer) as stream:
        content = stream.read("trap.npy")
    assert b"spring" in content
    Trap().__reduce__()[0]()
    assert Trap.sprung
    Trap.sprung = False


@cache
def packed_zeros() -> tuple[int, bytes]:
    """Size of many zeros, and the zeros compressed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return 80 * 2**20, b"".join(packer.compress(bytes(2**20)) for _ in range(80)) + packer.flush()


@pytest.mark.parametrize("claimed", [None, 100])
def test_a_bomb_is_not_unpacked(claimed: int | None) -> None:
    """A thousand to one: 80 MB of zeros in 80 kB; and once more with a size that is a lie."""
    size, packed = packed_zeros()
    stored = claimed or size
    common = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, 0, len(packed), stored, 5, 0)
    local = b"PK\3\4" + common + b"a.npy"
    central = b"PK\1\2" + struct.pack("<H", 20) + common + bytes(14) + b"a.npy"
    offset = len(local) + len(packed)
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), offset, 0)
    data = local + packed + central + end
    assert size / len(data) > 900
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    with pytest.raises(BundleError, match=r"golden\.npz"):
        read_arrays("golden.npz", data)
    assert time.process_time() - started < 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 3 * MAX_UNPACKED_BYTES // 1024
