"""The kernels that a runtime would make of a model, guessed from the fusions that it was seen to make. For where it is absent.

Operators are taken in order. Each starts a kernel, which grows by the next operator that reads one of its results, as long as the
runtime was seen to fuse the operators so far, with that one, into the beginning of a kernel. A kernel ends as the longest whole one
that was seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerclock.devices.attribution import VIEWS, Executed, SourceGraph

if TYPE_CHECKING:
    from collections.abc import Mapping

    from layerclock.network import Kernel

__all__ = ["fused_kernels"]


def fused_kernels(source: SourceGraph, fusions: Mapping[str, tuple[str, str, str]]) -> tuple[Kernel, ...]:
    """The kernels of a model; ``fusions`` maps operators joined by ``+`` to kind, implementation and layout of their kernel."""
    whole = {tuple(operators.split("+")): what for operators, what in fusions.items()}
    beginnings = {operators[:length] for operators in whole for length in range(1, len(operators) + 1)}

    def passed(name: str) -> bool:
        """Whether it is a view that was never seen as a kernel: it takes no time, and what reads it reads what it shows."""
        return source.nodes[name].op_type in VIEWS and (source.nodes[name].op_type,) not in whole

    def readers(name: str) -> list[str]:
        direct = source.readers.get(name, [])
        return [one for reader in direct for one in (readers(reader) if passed(reader) else [reader])]

    taken: set[str] = set()
    executed = []
    for name in source.order:
        if name in taken or source.is_bookkeeping(name) or passed(name):
            continue
        group, longest = [name], 1
        while True:
            kinds = tuple(source.nodes[one].op_type for one in group)
            if kinds in whole:
                longest = len(group)
            reading = {one for member in group for one in readers(member)} - taken - set(group)
            following = sorted(reading, key=source.order.__getitem__)
            grown = next((one for one in following if (*kinds, source.nodes[one].op_type) in beginnings), None)
            if grown is None:
                break
            group.append(grown)
        group = group[:longest]
        taken.update(group)
        kinds = tuple(source.nodes[one].op_type for one in group)
        op, implementation, layout = whole.get(kinds, (kinds[0], "", ""))
        executed.append(Executed(name=name, op=op, operators=tuple(group), layout=layout, implementation=implementation))
    return source.kernels(executed)
