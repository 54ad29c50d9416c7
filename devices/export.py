"""Export a network from torch to ONNX so that every operator still tells its layer. Needs torch and onnx.

Exporters name operators in different ways: the TorchScript one by module path, the dynamo one in metadata. Here both
become one form: node and tensor names begin with ``<site>/``. An operator outside all sites (a ``Flatten`` between
two modules) belongs to the site that produces its first input.
"""

from __future__ import annotations

import ast
import hashlib
import tempfile
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx

from layerclock.atomic import make_folder, write_atomically
from layerclock.devices.cache import cache_folder
from layerclock.errors import DeviceError, OutputError, SpaceError
from layerclock.interfaces import HasRealInputs, ModelFile
from layerclock.space import SiteIndex

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from layerclock.interfaces import SearchSpace

__all__ = ["Exporter", "build_network", "calibrate_normalisation", "example_inputs", "export_network", "write_real_inputs"]

# Part of the cache key: raise it when the exported file changes for the same network.
EXPORT_VERSION = 1
OPSET = 17


def calibrate_normalisation(network: torch.nn.Module, batches: Iterable[tuple[torch.Tensor, ...]]) -> None:
    """Set the running statistics of every BatchNorm from ``batches``, each the network's inputs.

    Without it a random-weight network's activations vanish, and denormal numbers distort its times.
    """
    import torch

    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    network.train()
    with torch.no_grad():
        for batch in batches:
            network(*batch)
    network.eval()
    for norm in norms:
        norm.momentum = 0.1


_TURN = Lock()


class Exporter:
    """Exports networks of one space, with random but calibrated weights, into a content-addressed cache.

    A file's name is the hash of everything that decides its content: the layers and where they stand, batch, seed,
    exporter and versions. ``dynamo`` chooses torch's newer exporter. Weights depend on the genome alone, not on order.
    """

    def __init__(self, space: SearchSpace, batch: int = 1, dynamo: bool = False, folder: Path | None = None) -> None:
        self.space = space
        self.index = SiteIndex.of(space)
        self.batch = batch
        self.dynamo = dynamo
        self.folder = folder or cache_folder()

    def __call__(self, genome: npt.ArrayLike) -> ModelFile:
        """The exported file of one genome, from the cache if it is there.

        Raises :class:`OutputError` if the cache cannot be written and :class:`DeviceError` if torch cannot export.
        """
        canonical = self.index.canonical(np.asarray(genome)[None])[0]
        network = self.index.network(canonical)
        content = [EXPORT_VERSION, version("torch"), onnx.__version__, OPSET, self.batch, self.dynamo]
        content += [f"{placed.site}={placed.layer.key}" for placed in network.layers]
        digest = hashlib.sha256(repr(content).encode()).hexdigest()[:24]
        path = self.folder / "models" / f"{digest}.onnx"
        sites = tuple(placed.site for placed in network.layers)
        if not path.exists():
            import torch  # here, for it takes seconds: a campaign that goes on finds its networks exported

            # torch's random numbers, from which weights are drawn, and its exporter are one for all threads of a process.
            with _TURN, torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as if nothing was exported
                module = build_network(self.space, canonical, digest)
                export_network(module, path, example_inputs(self.space, self.batch), sites, self.dynamo)
        return ModelFile(path, digest, sites, self.space.name, tuple(canonical.tolist()))


def build_network(space: SearchSpace, genome: npt.ArrayLike, digest: str) -> torch.nn.Module:
    """The network of a canonical genome with random but calibrated weights, the same for the same ``digest``, ready for inference."""
    import torch

    with torch.random.fork_rng(devices=[]):  # as in exporting
        torch.manual_seed(int(digest[:8], 16))
        module = space.build(genome)
        calibrate_normalisation(module, [example_inputs(space, 8)])
    return module.eval()


def example_inputs(space: SearchSpace, batch: int) -> tuple[torch.Tensor, ...]:
    """Inputs of the space's networks: normal numbers, or zeros and ones where they are positions in a vocabulary."""
    import torch

    shapes = [(batch, *spec.shape[1:]) for spec in space.inputs]
    return tuple(
        torch.randn(shape) if spec.dtype == "float32" else torch.randint(0, 2, shape, dtype=getattr(torch, spec.dtype))
        for spec, shape in zip(space.inputs, shapes, strict=True)
    )


def write_real_inputs(space: SearchSpace, count: int = 64) -> Path | None:
    """An ``.npz`` in the cache with real inputs of the space's networks, by name; None where the space has none."""
    if not isinstance(space, HasRealInputs):
        return None
    arrays = space.real_inputs(count)
    content = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:24]
    path = cache_folder() / "inputs" / f"{content}.npz"
    if not path.exists():
        make_folder(path.parent)
        named = dict(zip(_input_names(len(arrays)), arrays, strict=True))

        def write(draft: Path) -> None:
            with draft.open("wb") as file:  # numpy would add an ending of its own
                np.savez(file, **named)  # type: ignore[arg-type]  # takes them for its own options

        write_atomically(path, write)
    return path


def _input_names(number: int) -> list[str]:
    return ["input"] if number == 1 else [f"input{position}" for position in range(number)]


def export_network(
    module: torch.nn.Module, path: Path, examples: tuple[torch.Tensor, ...], sites: tuple[str, ...], dynamo: bool = False
) -> None:
    """Write ``module`` as ONNX with operators named after ``sites``; the file appears whole or not at all."""
    import torch

    names = _input_names(len(examples))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            draft = Path(folder) / "draft.onnx"
            with warnings.catch_warnings():
                # torch warns that the TorchScript exporter is the older one: it is ten times faster, and chosen here.
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    module.eval(), examples, str(draft), input_names=names, output_names=["output"], dynamo=dynamo,
                    external_data=False, opset_version=None if dynamo else OPSET, verbose=False,
                )  # fmt: skip
            model = onnx.load(str(draft))
            name_after_sites(model, sites)
            onnx.save(model, str(draft))
            draft.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write the exported network to {path.parent}: {error}", "set LAYERCLOCK_CACHE to a writable folder"
        ) from error
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise DeviceError(f"torch cannot export the network to ONNX: {first}", "check the space's build()") from error


def name_after_sites(model: onnx.ModelProto, sites: tuple[str, ...]) -> None:
    """Rename nodes and the tensors they make to ``<site>/<rest>``, in place. Raises :class:`SpaceError` if no node has a site."""
    outputs = {value.name for value in model.graph.output}
    site_of_tensor: dict[str, str] = {}
    renamed: dict[str, str] = {}
    used: Counter[str] = Counter()
    found = False
    for node in model.graph.node:
        site, rest = _site(node, sites)
        found = found or bool(site)
        if not site:
            producers = [site_of_tensor[name] for name in node.input if name in site_of_tensor]
            site = producers[0] if producers else sites[0]
        name = f"{site}/{rest}"
        used[name] += 1
        node.name = name if used[name] == 1 else f"{name}_{used[name]}"
        for position, tensor in enumerate(node.output):
            site_of_tensor[tensor] = site
            if tensor not in outputs:
                renamed[tensor] = node.name if position == 0 else f"{node.name}#{position}"
    if not found:
        raise SpaceError("no exported operator carries the name of a site", "name the modules of build() after the sites")
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    del model.graph.value_info[:]


def _site(node: onnx.NodeProto, sites: tuple[str, ...]) -> tuple[str, str]:
    """Site and remaining name of a node: from its TorchScript path or its dynamo scopes; an empty site if it has none."""
    metadata = {entry.key: entry.value for entry in node.metadata_props}
    scopes = metadata.get("pkg.torch.onnx.name_scopes")
    path = max(ast.literal_eval(scopes)[:-1], key=len, default="") if scopes else ".".join(node.name.split("/")[1:-1])
    owners = [site for site in sites if path == site or path.startswith(site + ".")]
    if not owners:
        return "", node.op_type
    site = max(owners, key=len)
    inner = path[len(site) + 1 :].replace(".", "/")
    return site, f"{inner}/{node.op_type}" if inner else node.op_type
