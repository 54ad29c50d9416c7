"""Opening files that may be hostile: each in a process of its own with limits of memory and time, and under a tripwire.

A server process imports what the readers need and opens one good file of each kind; for every file it forks a child, which sets its
limits and an audit hook (PEP 578) that ends it when it runs a program, unpickles, connects, or reads and writes files that are not its own.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["HARMLESS", "REFUSED", "open_all"]

REFUSED, HARMLESS = "refused", "harmless"
MEMORY_BYTES = 2 * 2**30
SECONDS = 20.0
_TRIPPED, _OTHER_ERROR = 77, 78
_FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link",
    "os.symlink", "subprocess.Popen", "socket.connect", "socket.bind", "pickle.find_class", "ctypes.dlopen", "shutil.rmtree",
)  # fmt: skip


def open_all(files: Sequence[tuple[str, Path]], warm: Sequence[tuple[str, Path]], servers: int = 2) -> Iterator[dict[str, object]]:
    """What became of each file (reader, path), in order: ``outcome``, ``error``, ``peak_mb`` above the server's own, ``seconds``.

    The outcome is ``refused`` (one LayerclockError), ``harmless`` (opened and answered as if nothing were wrong), or what went wrong.
    """
    command = [sys.executable, __file__, json.dumps([(reader, str(path)) for reader, path in warm])]
    pool = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(servers)]
    try:
        for start in range(0, len(files), servers):
            batch = list(zip(pool, files[start : start + servers], strict=False))
            for server, (reader, path) in batch:
                _pipe(server.stdin).write(json.dumps([reader, str(path)]) + "\n")
                _pipe(server.stdin).flush()
            for server, _ in batch:
                yield json.loads(_pipe(server.stdout).readline())
    finally:
        for server in pool:
            _pipe(server.stdin).close()
            server.wait(timeout=60)
            _pipe(server.stdout).close()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # noqa: S101 - as it was started
    return stream


def _serve(warm: Sequence[tuple[str, str]]) -> None:
    for reader, path in warm:
        _open(reader, path)
    for line in sys.stdin:
        reader, path = json.loads(line)
        print(json.dumps(_in_child(reader, path)), flush=True)


def _open(reader: str, path: str) -> str:
    """Open the file and use it; the names of functions are those of the public face."""
    import numpy as np

    from layerclock.datasets.check import check_table
    from layerclock.datasets.kernels import kernel_of
    from layerclock.datasets.table import read_table
    from layerclock.errors import TooNoisyError
    from layerclock.predictors.portable import load
    from layerclock.predictors.portable_kernels import load_kernelwise

    if reader == "table":
        table = read_table(path)
        for finding in check_table(table):
            if finding.rule == "every time is possible" and not finding.kept:
                raise TooNoisyError(f"table check: {finding.rule}: {finding.detail}", finding.advice)
        kernels = [kernel_of(row) for row in table.level("kernel").to_pylist()]
        return f"{len(table)} rows, {len(kernels)} kernels, {len(table.networks())} networks"
    if reader == "predictor":
        predictor = load(path)
        latency = predictor.predict(np.zeros((3, len(predictor.card.genes)), dtype=np.int64)).latency_ms
        return f"{latency.tolist()}"
    from layerclock.network import Kernel, TensorSpec

    spec = TensorSpec((1, 8, 16, 16), "float32")
    kernel = Kernel(name="", op="Conv", site="", fused_ops=("Conv",), inputs=(spec,), outputs=(spec,), weights=(), macs=1000)
    return f"{load_kernelwise(path).predict([kernel]).latency_ms}"


def _in_child(reader: str, path: str) -> dict[str, object]:
    receive, send = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(receive)
        # Libraries of C++ write to both; what a dying one says must not be taken for an answer.
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os.write(send, f"{_resident_kb()}\n".encode())
        _limit()
        _set_tripwire(path, send)
        _report(reader, path, send)
    os.close(send)
    status, usage, late = _wait(child, start)
    with os.fdopen(receive, "r") as stream:
        written = stream.read()
    start_kb, _, said = written.partition("\n")
    outcome, _, error = said.partition("\n")
    if late:
        outcome, error = "out of time", ""
    elif os.WIFSIGNALED(status):
        outcome, error = f"killed by {signal.Signals(os.WTERMSIG(status)).name}", said
    return {
        "outcome": outcome or f"exit code {os.waitstatus_to_exitcode(status)}",
        "error": error,
        "peak_mb": max(0, usage.ru_maxrss - int(start_kb)) / 1024,
        "seconds": time.monotonic() - start,
    }


def _wait(child: int, start: float) -> tuple[int, resource.struct_rusage, bool]:
    late = False
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            return status, usage, late
        if not late and time.monotonic() - start > SECONDS:
            late = True
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)


def _resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def _limit() -> None:
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS), int(SECONDS) + 1))


def _set_tripwire(own: str, send: int) -> None:
    library = tuple({sys.prefix, sys.base_prefix, "/usr/lib", *(path for path in sys.path if path)})

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        bad = event in _FORBIDDEN
        if event == "open" and isinstance(arguments[0], str) and arguments[0] != own:
            # The interpreter may read modules of its own; nothing else is opened, and nothing is written.
            bad = not arguments[0].startswith((*library, "/proc/", "/sys/"))
        if event in ("exec", "compile"):
            name = getattr(arguments[0], "co_filename", "") if event == "exec" else str(arguments[1])
            bad = not name.startswith((*library, "<frozen", "<attrs", str(Path(__file__).parents[1])))
        if bad:
            os.write(send, f"tripwire\n{event} {arguments!r}"[:500].encode())
            os._exit(_TRIPPED)

    sys.addaudithook(watch)


def _report(reader: str, path: str, send: int) -> None:
    from layerclock.errors import LayerclockError

    code = 0
    try:
        text = f"{HARMLESS}\n{_open(reader, path)}"
    except LayerclockError as error:
        text = f"{REFUSED}\n{type(error).__name__}: {error}"
    except BaseException as error:
        code, text = _OTHER_ERROR, f"{type(error).__name__}\n{str(error)[:300]}"
    os.write(send, text[:4000].encode("utf-8", "replace"))
    os._exit(code)


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
