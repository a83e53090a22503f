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

import numpy as np
from numpy.typing import NDArray

from edge_tta.errors import BundleError

MAX_ARRAYS = 64
MAX_UNPACKED_BYTES = 64 * 2**20

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
    stream = io.BytesIO(raw)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"array {key} has an unknown format version")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ValueError(f"array {key} holds {dtype}, not plain numbers")
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(raw) - stream.tell():
        raise ValueError(f"array {key} has {len(raw) - stream.tell()} bytes, not those of shape {shape}")
    array = np.frombuffer(raw, dtype, offset=stream.tell()).reshape(shape, order="F" if is_fortran else "C")
    if not np.isfinite(array).all():
        raise ValueError(f"array {key} holds NaN or infinite values")
    return array.astype(dtype.newbyteorder("="))
