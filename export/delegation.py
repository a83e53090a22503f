"""Which nodes of a lowered method its delegate runs, and which are left to ExecuTorch's own kernels."""

from __future__ import annotations

from torch.fx import GraphModule

from edge_tta.bundle.manifest import Delegation

_UNCOUNTED = frozenset({"getitem", "sym_size", "add", "mul", "sub", "floordiv"})
"""Tuple accesses and arithmetic of symbolic lengths; what computes has the name of its operator."""


def delegation_of(method: GraphModule) -> Delegation:
    """Nodes of a lowered method by operator, inside its delegates and outside."""
    from executorch.devtools.backend_debug import get_delegation_info

    info = get_delegation_info(method)
    counts = sorted(info.delegation_by_operator.items())
    return Delegation(
        subgraphs=info.num_delegated_subgraphs,
        delegated={name: count.delegated for name, count in counts if count.delegated},
        portable={
            name: count.non_delegated
            for name, count in counts
            if count.non_delegated and name not in _UNCOUNTED
        },
    )
