"""Nodes that XNNPACK runs together never wait for each other."""

from __future__ import annotations

import operator

import pytest
from torch.fx import Graph, Node

from export.xnnpack_partitioner import subgraph_levels


def node(graph: Graph, *sources: Node) -> Node:
    return graph.call_function(operator.add, sources)


def test_two_streams_that_leave_and_come_back_are_in_order() -> None:
    graph = Graph()
    first = node(graph, graph.placeholder("audio"))
    outside = node(graph, first)
    back = node(graph, outside)
    beside = node(graph, first)
    text = node(graph, graph.placeholder("text"))
    joined = node(graph, back, text)
    groups = [[part] for part in (first, back, beside, text, joined)]
    assert subgraph_levels(graph, groups) == [0, 1, 0, 0, 1]


def test_a_group_stays_whole_and_waits_for_the_last_of_its_inputs() -> None:
    graph = Graph()
    first = node(graph, graph.placeholder("audio"))
    early = node(graph, first)
    outside = node(graph, first)
    late = node(graph, outside)
    after = node(graph, early)
    assert subgraph_levels(graph, [[first], [early, late], [after]]) == [0, 1, 1]


def test_groups_that_wait_for_each_other_are_an_error() -> None:
    graph = Graph()
    first = node(graph, graph.placeholder("audio"))
    outside = node(graph, first)
    second = node(graph, outside)
    with pytest.raises(ValueError, match="wait for each other"):
        subgraph_levels(graph, [[first, second]])
