"""Static inspection of ONNX files without the onnx package: what a native loader must never be handed.

It refuses external data (files outside the bundle), operators of unknown domains (native code of others), control flow
and subgraphs (unbounded work), functions, tensors that claim more elements than the file holds, too new opsets, fields
that are not in the schema, and anything malformed. Time and depth are bounded: it visits at most ``wire.MAX_FIELDS``
fields and descends model, graph, node, attribute, tensor, no further.
Field numbers are those of onnx.proto3 (IR version 13).

Not checked: whether the graph makes sense (the runtime does that), and how much memory it takes to run.
"""

from __future__ import annotations

from edge_tta.bundle.wire import Fields, Malformed, as_message, as_number, as_text
from edge_tta.errors import BundleError

ALLOWED_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
FORBIDDEN_OPERATORS = frozenset({"Loop", "If", "Scan", "SequenceMap", "EPContext"})
"""Control flow, and the operator that loads a compiled graph from another file."""
MAX_OPSET = 24
MAX_NODES = 20000
MAX_TENSOR_ELEMENTS = 2**30

# Fields that can hold nothing dangerous; those handled below and those refused by name are not listed.
_MODEL_PLAIN = frozenset({1, 2, 3, 4, 5, 6, 14, 26})
_GRAPH_PLAIN = frozenset({2, 10, 11, 12, 13, 14, 16})
_NODE_PLAIN = frozenset({1, 2, 3, 6, 8, 9, 10})
_ATTRIBUTE_PLAIN = frozenset({1, 2, 3, 4, 7, 8, 9, 13, 14, 15, 20, 21})
_TENSOR_PLAIN = frozenset({2, 8, 12, 16})
_TENSOR_PAYLOAD = frozenset({4, 5, 6, 7, 9, 10, 11})


class _Inspector:
    def __init__(self) -> None:
        self.nodes = 0
        self.fields = Fields()

    def model(self, data: memoryview) -> None:
        graphs = 0
        for number, value in self.fields.read(data):
            if number == 7:
                self.graph(as_message(value))
                graphs += 1
            elif number == 8:
                self.opset(as_message(value))
            elif number == 20:
                raise Malformed("training graphs are not allowed")
            elif number == 25:
                raise Malformed("local functions are not allowed")
            elif number not in _MODEL_PLAIN:
                raise Malformed(f"unknown field {number} of the model")
        if graphs != 1:
            raise Malformed(f"{graphs} graphs instead of one")

    def opset(self, data: memoryview) -> None:
        for number, value in self.fields.read(data):
            if number == 1 and (domain := as_text(value)) not in ALLOWED_DOMAINS:
                raise Malformed(f"operators of domain {domain!r} are not allowed")
            if number == 2 and as_number(value) > MAX_OPSET:
                raise Malformed(f"opset {value} is newer than {MAX_OPSET}")
            if number not in (1, 2):
                raise Malformed(f"unknown field {number} of an opset")

    def graph(self, data: memoryview) -> None:
        for number, value in self.fields.read(data):
            if number == 1:
                self.node(as_message(value))
            elif number == 5:
                self.tensor(as_message(value))
            elif number == 15:
                raise Malformed("sparse initializers are not allowed")
            elif number not in _GRAPH_PLAIN:
                raise Malformed(f"unknown field {number} of the graph")

    def node(self, data: memoryview) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise Malformed(f"more than {MAX_NODES} nodes")
        for number, value in self.fields.read(data):
            if number == 4:
                if (operator := as_text(value)) in FORBIDDEN_OPERATORS:
                    raise Malformed(f"operator {operator} is not allowed")
            elif number == 5:
                self.attribute(as_message(value))
            elif number == 7:
                if (domain := as_text(value)) not in ALLOWED_DOMAINS:
                    raise Malformed(f"operators of domain {domain!r} are not allowed")
            elif number not in _NODE_PLAIN:
                raise Malformed(f"unknown field {number} of a node")

    def attribute(self, data: memoryview) -> None:
        for number, value in self.fields.read(data):
            if number in (5, 10):
                self.tensor(as_message(value))
            elif number in (6, 11):
                raise Malformed("subgraphs are not allowed")
            elif number in (22, 23):
                raise Malformed("sparse tensors are not allowed")
            elif number not in _ATTRIBUTE_PLAIN:
                raise Malformed(f"unknown field {number} of an attribute")

    def tensor(self, data: memoryview) -> None:
        elements, payload = 1, 0
        for number, value in self.fields.read(data):
            if number == 13 or (number == 14 and value != 0):
                raise Malformed("external data is not allowed: every file of a bundle must be self-contained")
            if number == 1:
                for dimension in [value] if isinstance(value, int) else self.fields.packed(value):
                    elements *= dimension
            elif number in _TENSOR_PAYLOAD:
                payload += 1 if isinstance(value, int) else max(1, len(value))
            elif number not in _TENSOR_PLAIN and number != 14:
                raise Malformed(f"unknown field {number} of a tensor")
            if elements > MAX_TENSOR_ELEMENTS:
                raise Malformed("a tensor has too many elements")
        # The densest type packs two elements into a byte.
        if elements > 2 * payload:
            raise Malformed(f"a tensor claims {elements} elements and holds {payload} bytes")


def inspect_onnx(name: str, data: bytes) -> None:
    """Refuse an ONNX file that could reach outside its bytes or run without bound.

    Args:
        name: file name for messages.
        data: the whole file.

    Raises:
        BundleError: names the file and the reason.
    """
    try:
        # ONNX Runtime takes a file with this mark for its own format, whatever else it may be.
        if data[4:8] == b"ORTM":
            raise Malformed("it is marked as ONNX Runtime's own format")
        _Inspector().model(memoryview(data))
    except Malformed as error:
        raise BundleError(f"{name}: not an acceptable ONNX file ({error})") from None
