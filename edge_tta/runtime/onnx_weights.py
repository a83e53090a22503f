"""An ONNX file as a graph without weights and where in the file they lie, so that loading it does not copy it twice.

ONNX Runtime reads a whole file into a message of its own, weights and all, before it packs them for its kernels, and
keeps both. Given a graph that refers to a file of weights, and that file as bytes in memory, it takes each weight from
there when it packs it. The bytes are those of the verified file itself; nothing is written and nothing copied here.
"""

from __future__ import annotations

from edge_tta.bundle.wire import Fields, message_field, varint

WEIGHTS = "weights"
"""What the graph calls the file of weights."""
MIN_BYTES = 4096
"""Smaller constants stay in the graph: there is nothing to gain."""

# Numbers of onnx.proto3: of a model, a graph, a tensor.
_GRAPH, _INITIALIZER, _DATA_TYPE, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 7, 5, 2, 9, 13, 14
_INT64, _EXTERNAL = 7, 1


def graph_without_weights(model: bytes) -> bytes:
    """The same model with its large weights as ranges of a file called ``WEIGHTS``, which is ``model`` itself.

    Args:
        model: an inspected ONNX file.

    Returns:
        ONNX file that needs ``model`` as its external file; as it was where no weight is large.

    Raises:
        Malformed: not a message.
    """
    return _without(memoryview(model), 0, (_GRAPH, _INITIALIZER), Fields())


def _without(message: memoryview, start: int, path: tuple[int, ...], fields: Fields) -> bytes:
    """A message that begins at a byte of the file, with the tensors at the end of a path of fields referring to it."""
    parts: list[bytes | memoryview] = []
    for number, value, span in fields.spans(message):
        inside = start + len(span) - (0 if isinstance(value, int) else len(value))
        start += len(span)
        if isinstance(value, int) or number != path[0] or len(value) < MIN_BYTES:
            parts.append(span)
        elif len(path) > 1:
            parts.append(message_field(number, _without(value, inside, path[1:], fields)))
        else:
            parts.append(message_field(number, _tensor(value, inside, fields)))
    return b"".join(parts)


def _tensor(tensor: memoryview, start: int, fields: Fields) -> bytes:
    """A tensor with a range of the file for its raw data.

    Left as they are: numbers stored one by one, and positions and shapes, which are read before weights are loaded.
    """
    if any((number, value) == (_DATA_TYPE, _INT64) for number, value in fields.read(tensor)):
        return bytes(tensor)
    parts: list[bytes | memoryview] = []
    for number, value, span in fields.spans(tensor):
        start += len(span)
        if number == _RAW_DATA and not isinstance(value, int):
            where = {"location": WEIGHTS, "offset": str(start - len(value)), "length": str(len(value))}
            for key, entry in where.items():
                pair = message_field(1, key.encode()) + message_field(2, entry.encode())
                parts.append(message_field(_EXTERNAL_DATA, pair))
            parts.append(varint(_DATA_LOCATION << 3) + varint(_EXTERNAL))
        elif number != _DATA_LOCATION:
            parts.append(span)
    return b"".join(parts)
