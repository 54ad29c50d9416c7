"""What a runtime computes in a kernel and does not name: products into whose weights it folded what comes behind, and what lies between.

OpenVINO calls a convolution or product after the last operator that it folded into its weights (a BatchNormalization, a layer's
scale), and makes convolutions of equal form over the parts of a Split one grouped convolution, called after their Concat.
Normalisations get a name of its own where their gain and shift change nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from layerclock.devices.attribution import Executed, SourceGraph

__all__ = ["claim_normalisations", "claim_unnamed", "parallel_products"]

_NORMALISATIONS = frozenset({"LayerNormalization", "InstanceNormalization", "GroupNormalization"})
# What OpenVINO makes of these, under a name of its own.
_NORMALISES = "MVN"


def claim_unnamed(graph: SourceGraph, owner: dict[str, str], claimed: dict[str, list[str]]) -> None:
    """Give unnamed operators to the kernels that must have computed them; extends ``owner`` and ``claimed`` in place.

    ``owner`` is the kernel of each named operator, ``claimed`` each kernel's operators. An unnamed product belongs to the next kernel
    behind it that has none of its own; an operator between two of one kernel belongs to it, for else the kernel would wait for itself;
    and so does a Split whose parts only the products of one kernel read.
    """
    lacking = {kernel for kernel, own in claimed.items() if own and not any(map(graph.is_product, own))}
    read: dict[str, str] = {}
    for name in reversed(graph.order):
        if name not in owner and graph.is_product(name) and not graph.is_bookkeeping(name):
            kernel = next((one for one in _kernels_behind(graph, name, owner) if one in lacking), "")
            before = graph.producer.get(graph.nodes[name].input[0], "")
            # A second one only where both are branches of one Split.
            if kernel and (kernel not in read or (read[kernel] == before and _splits(graph, before))):
                read[kernel] = before
                _claim(name, kernel, owner, claimed)
    for name, kernel in list(_between(graph, owner)):
        _claim(name, kernel, owner, claimed)
    for before in dict.fromkeys(read.values()):
        kernels = {owner.get(one, "") for one in graph.readers.get(before, [])}
        if _splits(graph, before) and before not in owner and len(kernels) == 1 and kernels != {""}:
            _claim(before, kernels.pop(), owner, claimed)


def claim_normalisations(graph: SourceGraph, executed: Sequence[Executed], owner: dict[str, str], claimed: dict[str, list[str]]) -> None:
    """Give each kernel that normalises, and names no operator, the first unnamed normalisation of what feeds it; extends as above."""
    kernels = {kernel.name: kernel for kernel in executed}
    unnamed = [name for name in graph.order if name not in owner and graph.nodes[name].op_type in _NORMALISATIONS]
    for kernel in executed:
        if kernel.op == _NORMALISES and not claimed[kernel.name]:
            feeder = kernel.feeder
            while feeder and not claimed[feeder]:
                feeder = kernels[feeder].feeder
            found = next((name for name in unnamed if name not in owner and _feeder(graph, name, owner) == feeder), None)
            if found:
                _claim(found, kernel.name, owner, claimed)


def _feeder(graph: SourceGraph, name: str, owner: dict[str, str]) -> str:
    """The kernel that makes an operator's first input, through unnamed operators; empty if it is one of the network's."""
    while (tensor := graph.nodes[name].input[0]) in graph.producer:
        name = graph.producer[tensor]
        if name in owner:
            return owner[name]
        if not graph.nodes[name].input:
            break
    return ""


def parallel_products(graph: SourceGraph, operators: Sequence[str]) -> list[str]:
    """The products of a kernel that all read one Split among its operators: branches of a grouped convolution. Else nothing."""
    splits = [name for name in operators if _splits(graph, name)]
    readers = graph.readers.get(splits[0], []) if len(splits) == 1 else []
    return [name for name in readers if name in operators and graph.is_product(name)]


def _splits(graph: SourceGraph, name: str) -> bool:
    return name in graph.nodes and graph.nodes[name].op_type == "Split"


def _claim(name: str, kernel: str, owner: dict[str, str], claimed: dict[str, list[str]]) -> None:
    owner[name] = kernel
    claimed[kernel].append(name)


def _kernels_behind(graph: SourceGraph, name: str, owner: dict[str, str]) -> Iterator[str]:
    """The nearest kernels behind an operator, through unnamed operators other than products, the nearest first."""
    pending, seen = deque(graph.readers.get(name, ())), {name}
    while pending:
        reader = pending.popleft()
        if reader in seen or graph.is_product(reader) or graph.is_bookkeeping(reader):
            continue
        seen.add(reader)
        if reader in owner:
            yield owner[reader]
        else:
            pending += graph.readers.get(reader, ())


def _between(graph: SourceGraph, owner: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Unnamed operators on a way from a kernel back into it, with the kernel."""
    unnamed = [name for name in graph.order if name not in owner and not graph.is_bookkeeping(name)]
    before: dict[str, set[str]] = {}
    for name in unnamed:
        before[name] = _kernels((graph.producer.get(tensor, "") for tensor in graph.nodes[name].input), owner, before)
    behind: dict[str, set[str]] = {}
    for name in reversed(unnamed):
        behind[name] = _kernels(graph.readers.get(name, ()), owner, behind)
    for name in unnamed:
        yield from ((name, kernel) for kernel in sorted(before[name] & behind[name])[:1])


def _kernels(neighbours: Iterable[str], owner: dict[str, str], found: dict[str, set[str]]) -> set[str]:
    kernels: set[str] = set()
    for one in neighbours:
        kernels |= {owner[one]} if one in owner else found.get(one, set())
    return kernels
