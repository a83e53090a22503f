"""Golden vectors: a NumPy archive from a stranger, read without pickle and without believing what it claims.

``numpy.load`` takes memory for whatever shape a header names, and a zip archive can unpack to a thousand times its
size. Here every size is compared with the bytes that are there before anything is reserved.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_tta.errors import BundleError

MAX_ARRAYS = 64
MAX_UNPACKED_BYTES = 64 * 2**20

MAX_HEADER_BYTES = 4096

_HEADER = re.compile(
    rb"\{'descr': '([<>|](?:[iu][1248]|f[248]))', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,12}(?:, \d{1,12})*,?)?)\), \} *\n"
)
_ENTRY = re.compile(r"[a-z][a-z0-9_]{0,63}\.npy")
_END_OF_DIRECTORY = 22
_MAX_DIRECTORY_BYTES = MAX_ARRAYS * 256


def read_arrays(name: str, data: bytes) -> dict[str, NDArray[np.generic]]:
    """Arrays of an ``.npz`` file.

    Args:
        name: file name for messages.
        data: the whole file.

    Returns:
        Finite numbers (signed, unsigned or floating, at most 8 bytes each) by name.

    Raises:
        BundleError: damaged, too large when unpacked, or holding anything but plain numbers.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    left = MAX_UNPACKED_BYTES
    try:
        _check_directory(data)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                if len(arrays) >= MAX_ARRAYS or not _ENTRY.fullmatch(entry.filename):
                    raise ValueError(f"unexpected entry {entry.filename[:80]!r}")
                key = entry.filename.removesuffix(".npy")
                if key in arrays:
                    raise ValueError(f"array {key} appears twice")
                with archive.open(entry) as stream:
                    raw = stream.read(left + 1)
                left -= len(raw)
                if left < 0:
                    raise ValueError(f"unpacks to more than {MAX_UNPACKED_BYTES} bytes")
                arrays[key] = _array(key, raw)
    except (ValueError, OSError, RuntimeError, EOFError, KeyError, struct.error) as error:
        raise BundleError(f"{name}: {error}") from error
    except (zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"{name}: not a NumPy archive ({error})") from error
    return arrays


def _check_directory(data: bytes) -> None:
    """The list of entries must be short, at the very end and plain: it is parsed before it can be counted."""
    end = data[-_END_OF_DIRECTORY:]
    if end[:4] != b"PK\5\6" or len(end) < _END_OF_DIRECTORY:
        raise zipfile.BadZipFile("no list of entries at the end")
    if data[-_END_OF_DIRECTORY - 20 : -_END_OF_DIRECTORY - 16] == b"PK\6\7":
        raise zipfile.BadZipFile("64-bit list of entries")
    if int.from_bytes(end[12:16], "little") > _MAX_DIRECTORY_BYTES:
        raise zipfile.BadZipFile("too many entries")


def _array(key: str, raw: bytes) -> NDArray[np.generic]:
    """One array; its header must be written exactly as NumPy writes it, so that nothing needs to be evaluated."""
    size = int.from_bytes(raw[8:10], "little")
    if raw[:8] != b"\x93NUMPY\x01\x00" or size > MAX_HEADER_BYTES:
        raise ValueError(f"array {key} has an unknown format version")
    header = _HEADER.fullmatch(raw[10 : 10 + size])
    if header is None:
        raise ValueError(f"array {key} does not hold plain numbers, or its header is not NumPy's")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(number) for number in re.findall(rb"\d+", header[3]))
    body = len(raw) - 10 - size
    if len(shape) > 8 or math.prod(shape) * dtype.itemsize != body:
        raise ValueError(f"array {key} has {body} bytes, not those of shape {shape[:8]} {dtype}")
    order: Literal["F", "C"] = "F" if header[2] == b"True" else "C"
    array = np.frombuffer(raw, dtype, offset=10 + size).reshape(shape, order=order)
    if not np.isfinite(array).all():
        raise ValueError(f"array {key} holds NaN or infinite values")
    return array.astype(dtype.newbyteorder("="))
