"""The process that worker processes are forked from: it has imported the runtime once, and holds nothing else.

Started by :class:`~layerclock.profiler.worker.WorkerPool` as ``python -m layerclock.profiler.zygote``. A process for each
network, so that a runtime that crashes, hangs or eats the memory costs that network alone; forked, because importing a
runtime anew for each would take longer than many a measurement. Needs Linux.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layerclock.errors import DeviceError, LayerclockError, OutputError

if TYPE_CHECKING:
    from layerclock.interfaces import Session

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve the campaign until its end of the line closes.

    Requests are ``<number> fork``, with the worker's socket beside it, and ``<number> wait <process>``; answers are
    ``<number> <process or exit code>`` and a line end.
    """
    control = socket.socket(fileno=int(sys.argv[1]))
    from layerclock.plugins import load_plugin
    from layerclock.profiler import clock  # noqa: F401 - what every worker needs is imported once, here

    with suppress(LayerclockError):  # the worker that opens the device tells what is wrong with it
        load_plugin("devices", sys.argv[2].partition(":")[0])
    with suppress(OSError):  # the campaign has gone
        control.sendall(b"ready\n")
        while True:
            request, received, _, _ = socket.recv_fds(control, 64, 1)
            if not request:
                return
            number, what, *arguments = request.decode().split()
            answer = _fork(control, received[0]) if what == "fork" else _wait(int(arguments[0]))
            control.sendall(f"{number} {answer}\n".encode())


def _fork(control: socket.socket, descriptor: int) -> int:
    """The new worker's process, or -1 if the system allows no more."""
    zygote = os.getpid()
    try:
        process = os.fork()
    except OSError:
        process = -1
    if not process:
        control.close()
        _work(descriptor, zygote)
    os.close(descriptor)
    return process


def _wait(process: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    except ChildProcessError:
        return 0


def _work(descriptor: int, zygote: int) -> None:
    """The life of a worker; it ends with the process."""
    # Workers die with the campaign, however that ends, and are the first to go when memory runs out.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != zygote:  # it died before the worker could ask to be told
        os._exit(0)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        _serve(Connection(descriptor))
    except (EOFError, OSError):  # the campaign closed the line
        os._exit(0)
    except BaseException as error:  # whatever it is, it must not go on with the zygote's code
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def _serve(line: Connection) -> None:
    from layerclock.devices.energy import energy_meter
    from layerclock.devices.machine import return_free_memory
    from layerclock.plugins import open_device
    from layerclock.profiler.clock import Reference, measure, rest_readings

    session: Session | None = None
    reference, energy = Reference(active=False), None
    while True:
        request, *arguments = line.recv()
        answer: Any = None
        try:
            if request == "load":
                name, options, target, model = arguments
                device = open_device(name, options)
                if device.target != target:
                    raise DeviceError(f"{name} opens as another target in a worker process", "do not change it while it is measured")
                reference, energy = Reference(device.on_host), energy_meter(name, dict(target.options), device.on_host)
                session = device.load(model)
                return_free_memory()
            elif request == "rest":
                answer = rest_readings(reference)
            elif session is not None:
                answer = measure(session, arguments[0], reference, energy)
                if arguments[0].profiled:
                    return_free_memory()
            line.send((True, answer))
        except OutputError as error:  # no network's fault: nothing more can be written
            line.send((None, (error.message, error.hint)))
        except LayerclockError as error:
            line.send((False, str(error)))
        except MemoryError:
            line.send((False, "out of memory"))


if __name__ == "__main__":
    main()
