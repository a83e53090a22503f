"""Which nodes XNNPACK runs together: as few subgraphs as the order of computation allows, and never a cycle.

ExecuTorch's own grouping merges subgraphs greedily and can make two that wait for each other where two streams run side
by side, as text and audio do in joint blocks ("found dependency cycles", ExecuTorch 1.5). Here a node's subgraph is
the number of times that its inputs had to leave XNNPACK: edges then never lead back.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from torch.fx import Graph, Node


def subgraph_levels(graph: Graph, groups: Sequence[Sequence[Node]]) -> list[int]:
    """The subgraph of every group of nodes that belong together, numbered in the order in which they run.

    A group comes after all that it depends on: in the same subgraph where the way there stays inside XNNPACK, in a
    later one where it leads through a node of no group.

    Args:
        graph: nodes in the order of computation.
        groups: disjoint groups of nodes that XNNPACK can run; constants among them depend on nothing.

    Raises:
        ValueError: two groups wait for each other.
    """
    group_of = {node: number for number, group in enumerate(groups) for node in group}
    computed = [node for node in graph.nodes if node.op == "call_function"]
    levels = [0] * len(groups)
    for _ in range(len(groups) + 1):
        before = list(levels)
        outside: dict[Node, int] = {}
        for node in computed:
            inside = node in group_of
            needed = 0 if inside else -1
            for source in node.all_input_nodes:
                if source.op != "call_function":
                    continue
                if source in group_of:
                    needed = max(needed, levels[group_of[source]])
                else:
                    needed = max(needed, outside[source] + inside)
            if inside:
                levels[group_of[node]] = max(levels[group_of[node]], needed)
            else:
                outside[node] = needed
        if levels == before:
            return levels
    raise ValueError("groups of nodes wait for each other")


def partitioner() -> Any:
    """XNNPACK's partitioner with this grouping.

    Raises:
        ImportError: executorch is absent.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from torch.fx.passes.infra.partitioner import Partition

    class OrderedPartitioner(XnnpackPartitioner):
        """What can run is XNNPACK's to say, what runs together is ours."""

        def generate_partitions(self, program: Any) -> list[Partition]:
            graph = program.graph_module.graph
            groups = [list(group) for group in self.get_matched_nodes_from_configs(program)]
            matched = {node: group for group in groups for node in group}
            for node in graph.nodes:
                # What takes an output from a tuple stays with what made the tuple.
                if node.target is operator.getitem and node not in matched and node.args[0] in matched:
                    matched[node.args[0]].append(node)
            found = defaultdict(set)
            for group, level in zip(groups, subgraph_levels(graph, groups), strict=True):
                found[level].update(group)
            return [
                Partition(id=level, nodes=[node for node in graph.nodes if node in found[level]])
                for level in sorted(found)
            ]

    return OrderedPartitioner()
