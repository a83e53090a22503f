"""What every rewriting of an ONNX graph needs: who makes a value, and the operators of ONNX Runtime declared."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx.helper

CONTRIB = "com.microsoft"
"""Domain of the operators that only ONNX Runtime has."""


class Makers:
    """The node behind each value.

    Args:
        nodes: of a graph, in any order.
    """

    def __init__(self, nodes: Iterable[onnx.NodeProto]) -> None:
        self._nodes = {output: node for node in nodes for output in node.output}

    def made(self, name: str, operator: str) -> onnx.NodeProto | None:
        """The node that makes a value, if it is of this operator."""
        node = self._nodes.get(name)
        return node if node is not None and node.op_type == operator else None


def declare_domains(model: onnx.ModelProto) -> None:
    """Name in the file every domain that its nodes come from, each at version 1 where it is new."""
    domains = {entry.domain for entry in model.opset_import}
    for domain in sorted({node.domain for node in model.graph.node} - domains):
        model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
