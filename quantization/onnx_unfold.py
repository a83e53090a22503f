"""Convolutions written as shifted copies and a product: their input is rounded before it is copied, not after.

Copies of bytes take a quarter of the memory traffic of copies of floats, and each value is rounded once, not once a
copy.
Nothing changes in the numbers: the range of DynamicQuantizeLinear always holds zero, so the frames put around the
sound are its zero point exactly, and shifted copies have together the range of what they are copies of.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx.helper

from quantization.onnx_graph import Makers

QUANTIZE = "DynamicQuantizeLinear"


@dataclass(frozen=True)
class _Unfolding:
    """Frames put around, slices that shift, slices side by side, and the rounding of it all."""

    pad: onnx.NodeProto
    slices: tuple[onnx.NodeProto, ...]
    concat: onnx.NodeProto
    quantize: onnx.NodeProto

    def rounded_first(self) -> list[onnx.NodeProto]:
        """The same values in the other order."""
        make = onnx.helper.make_node
        (x, pads), (integers, scale, zero) = self.pad.input, self.quantize.output
        padded = f"{integers}.padded"
        shifted = [f"{integers}.{number}" for number in range(len(self.slices))]
        axis = onnx.helper.get_node_attr_value(self.concat, "axis")
        return [
            make(QUANTIZE, [x], [f"{integers}.frames", scale, zero]),
            make("Pad", [f"{integers}.frames", pads, zero], [padded]),
            *(
                make("Slice", [padded, *node.input[1:]], [name])
                for node, name in zip(self.slices, shifted, strict=True)
            ),
            make("Concat", shifted, [integers], axis=axis),
        ]


def round_before_unfolding(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Nodes in an order that runs, with every such rounding moved before the copies.

    Left as they are: copies that something else reads too, and padding with anything but zeros.
    """
    makers = Makers(nodes)
    readers: dict[str, int] = {}
    for name in (name for node in nodes for name in node.input):
        readers[name] = readers.get(name, 0) + 1
    made: dict[str, list[onnx.NodeProto]] = {}
    gone: set[str] = set()
    for node in nodes:
        found = _unfolding(node, makers, readers) if node.op_type == QUANTIZE else None
        if found is not None:
            made[node.output[0]] = found.rounded_first()
            gone.update(part.output[0] for part in (found.pad, *found.slices, found.concat))
    return [
        new
        for node in nodes
        if not node.output or node.output[0] not in gone
        for new in made.get(node.output[0] if node.output else "", [node])
    ]


def _unfolding(quantize: onnx.NodeProto, makers: Makers, readers: dict[str, int]) -> _Unfolding | None:
    concat = makers.made(quantize.input[0], "Concat")
    if concat is None or readers[concat.output[0]] != 1:
        return None
    slices = [makers.made(name, "Slice") for name in concat.input]
    pad = None if slices[0] is None else makers.made(slices[0].input[0], "Pad")
    if pad is None or not _pads_with_zeros(pad):
        return None
    alone = all(
        node is not None and node.input[0] == pad.output[0] and readers[node.output[0]] == 1
        for node in slices
    )
    if not alone or readers[pad.output[0]] != len(slices):
        return None
    return _Unfolding(pad, tuple(node for node in slices if node is not None), concat, quantize)


def _pads_with_zeros(pad: onnx.NodeProto) -> bool:
    modes = [onnx.helper.get_attribute_value(item) for item in pad.attribute if item.name == "mode"]
    return len(pad.input) == 2 and modes in ([], [b"constant"])
