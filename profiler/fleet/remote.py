"""Measuring on boards of a fleet: what a campaign takes for a device and for its pool of workers.

A campaign measures on one board at a time. Others that hold the same device stand by, and one of them takes over when the board
is lost, if it is the same target to the last field; times of different targets never meet in a folder. They do not measure side by
side: the clock judges every run by one machine's reference workload, and a table of several boards would be one of none.
"""

from __future__ import annotations

import hashlib
import socket
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from layerclock.errors import DeviceError, FleetError
from layerclock.profiler.fleet import board as on_board
from layerclock.profiler.fleet.boards import BoardFinder, require_alike
from layerclock.profiler.fleet.cluster import MemberLostError
from layerclock.profiler.worker import WorkerKilledError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    from distributed import Future

    from layerclock.interfaces import DeviceOptions, ModelFile, Session
    from layerclock.profiler.fleet.board import Answer
    from layerclock.profiler.fleet.boards import Board
    from layerclock.profiler.fleet.cluster import Cluster, Member
    from layerclock.profiler.measurement import Measurement, Order
    from layerclock.target import Target

__all__ = ["FleetDevice", "RemotePool", "RemoteWorker", "open_fleet_device"]

# So often may a board be lost over one request before the network itself is taken to be what kills it.
_LOSSES = 3
# A board may serve other campaigns first: what it is asked for may take so many times the limit of one answer, and a bit.
_QUEUE, _QUEUE_S = 10.0, 30.0
# Larger models are sent to a board once it has said that it lacks one: most campaigns go on, or measure what another one measured.
_PRESUMED_BYTES = 2**20
_LEAVE_S = 5.0


def open_fleet_device(cluster: Cluster, name: str, options: DeviceOptions, boards: Sequence[str] = ()) -> FleetDevice:
    """The device called ``name`` as the boards of the fleet have it, or those of the given names alone.

    Raises :class:`FleetError` if no board holds it in time, if none can open it, or if they are different targets.
    """
    finder = BoardFinder(cluster, name, options, tuple(boards))
    found = finder.wait()
    require_alike(found, name)
    return FleetDevice(finder, options, found[0].described.target, found[0].described.on_host)


class FleetDevice:
    """A device that is not here: campaigns take it like any other, and measure through its :meth:`pool`."""

    def __init__(self, finder: BoardFinder, options: DeviceOptions, target: Target, on_host: bool) -> None:
        self.finder = finder
        self.options = options
        self.target = target
        self.on_host = on_host

    def load(self, model: ModelFile) -> Session:
        """Not possible: raises :class:`DeviceError`."""
        raise DeviceError(
            f"{self.target.device} is on a board of the fleet: {model.path.name} cannot be run from here", "measure it instead"
        )

    def prepare(self, model: ModelFile) -> ModelFile:
        """The same: the board makes of it what it will load. Raises :class:`DeviceError` if it is more than one file."""
        from layerclock.devices.onnx_file import weights_file

        if weights_file(model.path).exists():
            raise DeviceError(
                f"{model.path.name} is too large for one file, and only one goes to a fleet's board",
                "profile it on the board, without --fleet",
            )
        return model

    def pool(self, limit_s: float, log: Path, affinity: tuple[int, ...]) -> RemotePool:
        """The pool of one sitting; ``log``, in the campaign's folder, tells the campaign from others."""
        return RemotePool(self, limit_s, log, affinity)

    def with_options(self, options: DeviceOptions) -> FleetDevice:
        """The same device on the same boards, opened with other options. Raises as :func:`open_fleet_device`."""
        return open_fleet_device(self.finder.cluster, self.finder.device, options, self.finder.only)


class RemotePool:
    """As :class:`~layerclock.profiler.worker.WorkerPool`, on the board on which the campaign measures at the moment.

    Raises :class:`FleetError` when no scheduler or no board of the campaign's target is found in time.
    """

    def __init__(self, device: FleetDevice, limit_s: float, log: Path, affinity: tuple[int, ...]) -> None:
        place = hashlib.sha256(f"{socket.gethostname()}:{log.absolute()}:{device.target.id}".encode()).hexdigest()[:16]
        self.limit_s = limit_s
        self.opening = on_board.Opening(
            place, uuid.uuid4().hex, device.target.device, device.options, device.target, limit_s, affinity
        )  # fmt: skip
        self._finder = device.finder
        self._cluster = device.finder.cluster
        self._board: Board | None = None
        self._lost: Member | None = None
        self._told_unlike: set[str] = set()
        self._numbers = 0
        self._memory_bytes: int | None = None
        self._on_board: set[tuple[str, str]] = set()
        self._lacking: set[str] = set()  # processes of boards
        self._closing: deque[Future[Any]] = deque()

    def __enter__(self) -> Self:
        self.board()
        return self

    def __exit__(self, *_: object) -> None:
        if self._board:
            with suppress(MemberLostError, FleetError):
                future = self.send(self._board, on_board.leave, self.opening.sitting)
                self._cluster.result(future, self._finder.resource, self._board.member, _LEAVE_S)

    def start(self) -> RemoteWorker:
        """A worker in which nothing is loaded yet."""
        self._numbers += 1
        return RemoteWorker(self, self._numbers)

    def available_memory_bytes(self) -> int | None:
        """As the board last told."""
        return self._memory_bytes

    def conditions(self) -> Mapping[str, str]:
        """As the board told when the campaign came to it."""
        return self.board().described.conditions

    def board(self) -> Board:
        """Where the campaign measures; another board if that one was lost: of those that are the same target, the one with least to do."""
        if self._board is None:
            found = self._finder.wait(self._lost)
            alike = [one for one in found if one.described.target == self.opening.target]
            for one in found:
                if one not in alike and one.member.name not in self._told_unlike:
                    self._told_unlike.add(one.member.name)
                    self._cluster.tell(f"{one.member.name} is another target than this campaign's: not used")
            if not alike:
                raise FleetError(
                    f"the boards that hold {self.opening.device} are other targets than the campaign's",
                    "bring back the board that it began on, or measure into another folder; what was measured is kept",
                )
            self._board = min(alike, key=lambda one: (one.described.campaigns, one.member.name))
            self._memory_bytes = self._board.described.memory_bytes
            if self._lost:
                self._cluster.tell(f"going on with {self._board.member.name}")
        return self._board

    def lost(self, board: Board | None, error: MemberLostError) -> None:
        """Measure elsewhere from now on."""
        if board is not None and board == self._board:
            self._cluster.tell(f"{board.member.name} was lost: {error}")
            self._board, self._lost = None, board.member

    def send(self, board: Board, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Ask the board, alone there while it answers. Raises :class:`MemberLostError`."""
        return self._cluster.submit(function, arguments, self._finder.resource, board.member)

    def received(self, board: Board, future: Future[Any]) -> Answer:
        """What the board answers. Raises :class:`MemberLostError`."""
        answer: Answer = self._cluster.result(future, self._finder.resource, board.member, _QUEUE * self.limit_s + _QUEUE_S)
        self._memory_bytes = answer.memory_bytes
        return answer

    def packed(self, board: Board, model: ModelFile) -> on_board.SentModel:
        """The model as it is sent, without the bytes that the board has, or may have."""
        inputs = self._file(board, model.calibration) if model.calibration else None
        return on_board.SentModel(replace(model, path=Path(), calibration=None), self._file(board, model.path), inputs)

    def _file(self, board: Board, path: Path) -> on_board.SentFile:
        data = path.read_bytes()
        name = f"{hashlib.sha256(data).hexdigest()}{path.suffix}"
        process = board.described.process
        presumed = len(data) >= _PRESUMED_BYTES and process not in self._lacking
        known = presumed or (process, name) in self._on_board
        self._on_board.add((process, name))
        return on_board.SentFile(name, None if known else data)

    def forget_files(self, board: Board, sent: on_board.SentModel) -> None:
        """The board has not got them: they are sent next time, and so are others that it may have."""
        self._on_board -= {(board.described.process, file.name) for file in sent.files}
        self._lacking.add(board.described.process)

    def close_there(self, number: int) -> None:
        """Let the board close a network, without waiting for it."""
        while self._closing and self._closing[0].done():
            self._closing.popleft()
        if self._board:
            with suppress(MemberLostError, FleetError):
                self._closing.append(self.send(self._board, on_board.close, self.opening, number))


class RemoteWorker:
    """One network on a board. If that is lost, it is loaded on the next one when it is needed there."""

    def __init__(self, pool: RemotePool, number: int) -> None:
        self._pool = pool
        self._number = number
        self._model: ModelFile | None = None
        self._process = ""
        self._loading: tuple[Board, on_board.SentModel, Future[Any]] | None = None
        self._announced: tuple[Board, Future[Any]] | None = None

    def load(self, model: ModelFile) -> None:
        """Begin to load ``model``."""
        self._model = model
        board = self._pool.board()
        with suppress(MemberLostError):  # then it is loaded when it is waited for
            self._begin(board, model)

    def wait(self) -> None:
        """Return once the network is loaded. Raises :class:`DeviceError` if it cannot be."""
        self._asked(None)

    def announce(self, order: Order) -> bool:
        """Ask for it now: the board begins when it has answered what it was asked before, while that answer is on its way."""
        board = self._pool.board()
        if self._process != board.described.process:
            return False
        if self._announced is None or self._announced[0] != board:
            try:
                self._announced = (board, self._send(board, on_board.measure, order))
            except MemberLostError:  # it is asked for when it is waited for
                return False
        return True

    def measure(self, order: Order) -> Measurement:
        """Time the network where the campaign measures now; the answer to what was announced, if that is still the same board."""
        board, value = self._asked(on_board.measure, order)
        measurement: Measurement = value
        return replace(measurement, board=board.member.name)

    def rest_readings(self) -> npt.NDArray[np.float64]:
        """The reference workload's times in ns over a second, on the board."""
        readings: npt.NDArray[np.float64] = self._asked(on_board.rest_readings)[1]
        return readings

    def close(self) -> None:
        """Let go of the network."""
        self._model = None
        if self._process or self._loading:
            self._process, self._loading, self._announced = "", None, None
            self._pool.close_there(self._number)

    def _asked(self, function: Callable[..., Answer] | None, *arguments: Any) -> tuple[Board, Any]:
        """The value of ``function`` on the board, after loading there if need be; boards that are lost meanwhile are replaced."""
        if self._model is None:
            raise DeviceError("the worker was closed", "load the network again")
        for _ in range(_LOSSES):
            board = self._pool.board()
            try:
                if self._process != board.described.process:
                    self._load_on(board, self._model)
                if function is None:
                    return board, None
                future = self._taken(board) if function == on_board.measure else None
                answer = self._pool.received(board, future or self._send(board, function, *arguments))
            except MemberLostError as error:
                self._pool.lost(board, error)
                continue
            if answer.state != "absent":
                return board, self._value(board, answer)
            self._process = ""
        raise WorkerKilledError(f"its board was lost {_LOSSES} times on end", "look at the boards, then try it again with --retry-failed")

    def _taken(self, board: Board) -> Future[Any] | None:
        """The answer that was announced to come from ``board``; what another one was asked for is lost with it."""
        announced, self._announced = self._announced, None
        return announced[1] if announced and announced[0] == board else None

    def _send(self, board: Board, function: Callable[..., Answer], *arguments: Any) -> Future[Any]:
        return self._pool.send(board, function, self._pool.opening, self._number, *arguments)

    def _begin(self, board: Board, model: ModelFile) -> tuple[on_board.SentModel, Future[Any]]:
        sent = self._pool.packed(board, model)
        future = self._send(board, on_board.load, sent)
        self._loading = (board, sent, future)
        return sent, future

    def _load_on(self, board: Board, model: ModelFile) -> None:
        for _ in range(2):
            begun = self._loading
            sent, future = begun[1:] if begun and begun[0] == board else self._begin(board, model)
            self._loading = None
            answer = self._pool.received(board, future)
            if answer.state != "absent":
                break
            self._pool.forget_files(board, sent)
        self._value(board, answer)
        self._process = board.described.process

    def _value(self, board: Board, answer: Answer) -> Any:
        if answer.state == "fine":
            return answer.value
        self._process = ""
        if answer.state == "unable":
            raise FleetError(
                f"{board.member.name} cannot go on: {answer.message}",
                f"{answer.hint}, there; what was measured is kept, and the same command goes on",
            )
        kind = WorkerKilledError if answer.state == "killed" else DeviceError
        raise kind(answer.message, answer.hint and f"{answer.hint}, on {board.member.name}")
