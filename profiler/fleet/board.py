"""What runs on a board: it keeps loaded networks for campaigns elsewhere and measures them when asked.

These functions are what Dask's tasks call. Each measures as a local campaign does, through a
:class:`~layerclock.profiler.worker.WorkerPool`. One request at a time is served on a machine, however many Dask workers, devices and
campaigns there are: a lock on a file sees to it. Nothing here knows Dask.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from layerclock.atomic import make_folder, write_atomically
from layerclock.devices.cache import cache_folder
from layerclock.devices.machine import available_memory_bytes, conditions
from layerclock.errors import CampaignError, DeviceError, LayerclockError, OutputError
from layerclock.interfaces import ModelFile, PreparesModels
from layerclock.plugins import open_device
from layerclock.profiler.worker import WorkerKilledError, WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from layerclock.interfaces import DeviceOptions
    from layerclock.profiler.measurement import Order
    from layerclock.profiler.worker import Worker
    from layerclock.target import Target

__all__ = [
    "PROCESS",
    "Answer",
    "Description",
    "Opening",
    "SentFile",
    "SentModel",
    "close",
    "close_idle",
    "describe",
    "leave",
    "load",
    "measure",
    "rest_readings",
]

# This process, as long as it lives: what is loaded here is lost with it.
PROCESS = uuid.uuid4().hex
# A campaign from which nothing was heard for so long has its memory taken back; it would load its networks again.
_IDLE_S = 900.0


@dataclass(frozen=True, slots=True)
class Opening:
    """Whose networks they are and how they are to be measured; ``sitting`` is another one each time that ``campaign`` goes on."""

    campaign: str
    sitting: str
    device: str
    options: DeviceOptions
    target: Target
    limit_s: float
    affinity: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file on its way: its name on the board, which is the hash of its bytes, and these, unless the board is taken to have them."""

    name: str
    data: bytes | None


@dataclass(frozen=True, slots=True)
class SentModel:
    """A network on its way: what the desk knows of it, its ONNX file, and the real inputs to quantise it by."""

    model: ModelFile
    network: SentFile
    inputs: SentFile | None

    @property
    def files(self) -> tuple[SentFile, ...]:
        """All that has to be on the board."""
        return (self.network,) if self.inputs is None else (self.network, self.inputs)


@dataclass(frozen=True, slots=True)
class Description:
    """A board as one device sees it; ``campaigns`` have networks loaded there, ``process`` is its :data:`PROCESS`."""

    target: Target
    on_host: bool
    conditions: dict[str, str]
    memory_bytes: int | None
    campaigns: int
    process: str


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended.

    ``absent``: the network, or the model's bytes, are not here; ``killed``: another try may help; ``unable``: it is the board that cannot
    go on, whatever the network.
    """

    state: Literal["fine", "failed", "killed", "absent", "unable"]
    value: Any = None
    message: str = ""
    hint: str = ""
    memory_bytes: int | None = field(default_factory=available_memory_bytes)


class _Campaign:
    """The networks that one sitting has loaded here."""

    def __init__(self, opening: Opening) -> None:
        device = open_device(opening.device, opening.options)
        if device.target != opening.target:
            raise DeviceError(f"{opening.device} is another target here than the campaign's", "measure each target in a folder of its own")
        folder = make_folder(cache_folder() / "fleet")
        self.opening = opening
        self.device = device
        self.heard_at = monotonic()
        self.workers: dict[int, Worker] = {}
        self.pool = WorkerPool(device, opening.limit_s, folder / f"{opening.campaign}.log", opening.affinity)
        self.pool.__enter__()

    def prepared(self, model: ModelFile) -> ModelFile:
        """As the device will load it: made here, as at a desk, so that the process that is measured need not."""
        return self.device.prepare(model) if isinstance(self.device, PreparesModels) else model


_campaigns: dict[str, _Campaign] = {}
_turn = RLock()


@contextmanager
def _alone() -> Iterator[None]:
    """Keep every other request on this machine waiting; ends with the process, however that ends."""
    path = Path(tempfile.gettempdir()) / f"layerclock-board-{os.getuid()}.lock"
    with _turn, path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def describe(device: str, options: DeviceOptions) -> Answer:
    """The :class:`Description` of this board, with ``device`` opened as ``options`` say."""
    with _alone():
        try:
            opened = open_device(device, options)
        except LayerclockError as error:
            return Answer("failed", message=error.message, hint=error.hint)
        memory = available_memory_bytes()
        return Answer("fine", Description(opened.target, opened.on_host, conditions(), memory, len(_campaigns), PROCESS))


def _path(name: str) -> Path:
    return cache_folder() / "fleet" / name


def _kept(file: SentFile) -> Answer:
    """Keep a file that was sent; ``absent`` if neither it nor its bytes are here."""
    if file.data is None:
        return Answer("fine" if _path(file.name).exists() else "absent")
    data = file.data
    if hashlib.sha256(data).hexdigest() != Path(file.name).stem:
        return Answer("failed", message="a file did not arrive as it was sent", hint="send it again")
    write_atomically(_path(file.name), lambda draft: draft.write_bytes(data))
    return Answer("fine")


def load(opening: Opening, number: int, sent: SentModel) -> Answer:
    """Load a network into a process of its own; a number that is loaded already is loaded anew."""

    def answer() -> Answer:
        for file in sent.files:
            kept = _kept(file)
            if kept.state != "fine":
                return kept
        campaign = _entered(opening)
        if number in campaign.workers:
            campaign.workers.pop(number).close()
        inputs = _path(sent.inputs.name) if sent.inputs else None
        model = campaign.prepared(replace(sent.model, path=_path(sent.network.name), calibration=inputs))
        worker = campaign.pool.start()
        worker.load(model)
        try:
            worker.wait()
        except DeviceError:
            worker.close()
            raise
        campaign.workers[number] = worker
        return Answer("fine")

    return _served(opening, answer)


def measure(opening: Opening, number: int, order: Order) -> Answer:
    """A :class:`~layerclock.profiler.measurement.Measurement` of a loaded network."""
    return _of_network(opening, number, lambda worker: worker.measure(order))


def rest_readings(opening: Opening, number: int) -> Answer:
    """The reference workload's times in ns over a second, float64[n]."""
    return _of_network(opening, number, lambda worker: worker.rest_readings())


def close(opening: Opening, number: int) -> Answer:
    """Let go of one network."""

    def answer() -> Answer:
        campaign = _campaigns.get(opening.sitting)
        if campaign and number in campaign.workers:
            campaign.workers.pop(number).close()
        return Answer("fine")

    return _served(opening, answer)


def leave(sitting: str) -> None:
    """Let go of all that a sitting has loaded here."""
    with _alone():
        _dismiss(sitting)


def close_idle() -> None:
    """Let go of sittings of which nothing was heard for long: their desk is gone."""
    if _turn.acquire(blocking=False):
        try:
            for sitting, campaign in list(_campaigns.items()):
                if monotonic() - campaign.heard_at > _IDLE_S:
                    _dismiss(sitting)
        finally:
            _turn.release()


def _dismiss(sitting: str) -> None:
    campaign = _campaigns.pop(sitting, None)
    if campaign:
        campaign.pool.__exit__()


def _entered(opening: Opening) -> _Campaign:
    """The sitting's networks; an earlier sitting of the same campaign is over by now."""
    for sitting, campaign in list(_campaigns.items()):
        if campaign.opening.campaign == opening.campaign and sitting != opening.sitting:
            _dismiss(sitting)
    if opening.sitting not in _campaigns:
        _campaigns[opening.sitting] = _Campaign(opening)
    return _campaigns[opening.sitting]


def _of_network(opening: Opening, number: int, ask: Callable[[Worker], object]) -> Answer:
    def answer() -> Answer:
        campaign = _campaigns.get(opening.sitting)
        if campaign is None or number not in campaign.workers:
            return Answer("absent")
        try:
            return Answer("fine", ask(campaign.workers[number]))
        except DeviceError:
            campaign.workers.pop(number).close()
            raise

    return _served(opening, answer)


def _served(opening: Opening, answer: Callable[[], Answer]) -> Answer:
    """Serve a request alone on this machine, and turn errors into answers: these are plain values, which travel safely."""
    with _alone():
        if opening.sitting in _campaigns:
            _campaigns[opening.sitting].heard_at = monotonic()
        try:
            return answer()
        except WorkerKilledError as error:
            return Answer("killed", message=error.message, hint=error.hint)
        except CampaignError as error:  # the process that its workers are forked from is gone, and they with it
            _dismiss(opening.sitting)
            return Answer("killed", message=error.message, hint=error.hint)
        except OutputError as error:
            return Answer("unable", message=error.message, hint=error.hint)
        except LayerclockError as error:
            return Answer("failed", message=error.message, hint=error.hint)
