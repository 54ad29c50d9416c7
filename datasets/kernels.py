"""Kernels as rows of a latency table, and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from layerclock.errors import TableError
from layerclock.network import Kernel, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["bytes_of", "kernel_columns", "kernel_key", "kernel_of", "macs_of_a_run", "shapes_of"]


def kernel_key(kernel: Kernel) -> str:
    """What the kernel is, apart from its name and place: the same text on every machine and in every run."""
    attributes = json.dumps(dict(kernel.attributes), sort_keys=True)
    reads = " ".join(map(str, kernel.inputs)) + "".join(f" *{weights}" for weights in kernel.weights)
    shapes = f"{reads} -> {' '.join(map(str, kernel.outputs))}"
    return f"{kernel.op}[{'+'.join(kernel.fused_ops)}]{attributes} {shapes} {kernel.layout} {kernel.implementation}"


def kernel_columns(kernel: Kernel) -> dict[str, Any]:
    """Those columns of a kernel's row that say what it is."""
    return {
        "level": "kernel",
        "key": kernel_key(kernel),
        "op": kernel.op,
        "fused_ops": list(kernel.fused_ops),
        "attributes": json.dumps(dict(kernel.attributes), sort_keys=True),
        "in_shapes": shapes_of(kernel.inputs),
        "out_shapes": shapes_of(kernel.outputs),
        "weight_shapes": shapes_of(kernel.weights),
        "dtype": kernel.outputs[0].dtype if kernel.outputs else None,
        "macs": kernel.macs,
        "layout": kernel.layout,
        "implementation": kernel.implementation,
        "bytes": bytes_of((*kernel.inputs, *kernel.weights, *kernel.outputs)) if kernel.outputs else None,
    }


def kernel_of(row: Mapping[str, Any]) -> Kernel:
    """The kernel that a row tells of; all its tensors are taken to be of the row's one element type.

    Raises :class:`~layerclock.errors.TableError` if its attributes are no JSON object.
    """
    try:
        attributes = tuple(sorted(json.loads(row["attributes"] or "{}").items()))
    except (ValueError, AttributeError, RecursionError) as error:
        raise TableError(f"the attributes of the kernel {str(row['key'])[:80]!r} are no JSON object", "use the original file") from error
    dtype = row["dtype"] or "float32"

    def specs(shapes: Sequence[Sequence[int]] | None) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(tuple(shape), dtype) for shape in shapes or ())

    return Kernel(
        name="",
        op=row["op"],
        site="",
        fused_ops=tuple(row["fused_ops"] or ()),
        inputs=specs(row["in_shapes"]),
        outputs=specs(row["out_shapes"]),
        weights=specs(row["weight_shapes"]),
        attributes=attributes,
        layout=row["layout"] or "",
        implementation=row["implementation"] or "",
        macs=row["macs"],
    )


def macs_of_a_run(row: Mapping[str, Any]) -> int | None:
    """Multiply-accumulates at the measured batch, which a row's time is for; None where they are not known."""
    macs: int | None = row["macs"]
    return macs if macs is None or row["level"] == "kernel" else macs * (row["batch"] or 1)


def bytes_of(specs: Iterable[TensorSpec]) -> int | None:
    """Bytes of all together; None if one is of a type whose width is not known."""
    try:
        return sum(spec.bytes for spec in specs)
    except KeyError:
        return None


def shapes_of(specs: Iterable[TensorSpec]) -> list[list[int]]:
    """Shapes alone."""
    return [list(spec.shape) for spec in specs]
