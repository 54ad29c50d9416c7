"""A fleet under faults, and what it costs: no key lost or doubled while boards are killed, and the time beside a local campaign's.

Four workers, each in a process and, where this machine allows it (root, ``ip netns``), in a network namespace of its own, to which
the scheduler and the desk talk TLS over a bridge. Every 20 seconds the worker on which the campaign measures is killed with SIGKILL,
and another one started in its place. Then the same plan and rounds are measured locally and through a fleet of one worker on
loopback, in turns, by the command that a user types; the overhead is the median over the pairs.

The times are good for something only with nothing else running: scheduler and desk share the machine's processors with the
measurement here, as they do not where there are boards. On a busy machine campaigns differ by more than a fleet costs: beside the
whole times stands ``overhead_outside_measuring``, of what is left of each campaign without the seconds in which a network was measured.

``python benchmarks/fleet.py [--quick]``, about half an hour; an hour on a busy machine.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import TYPE_CHECKING

from faults import _descendants
from report import finish

import layerclock as lc

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYERCLOCK = [sys.executable, "-m", "layerclock"]
DEVICE = "onnxruntime:cpu"
SPACE = "digits-mobilenetv3"
WORKERS = 4
SECONDS_BETWEEN_KILLS = 20.0
_NETWORK = "10.213.77"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 kills or so, and two pairs of short campaigns")
    parser.add_argument("--only", choices=("faults", "overhead"), help="this half only")
    parser.add_argument("--pairs", type=int, help="of campaigns side by side: 5 unless told, 2 with --quick")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no worker and no namespace stays behind
    figures: dict[str, float] = {}
    targets: dict[str, tuple[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.only != "overhead":
            figures |= _faults(Path(temporary), arguments.quick)
            targets |= {"kills": (">=", 1.0), "networks_failed": ("==", 0.0), "measurements_missing": ("==", 0.0)}
            targets |= {"keys_lost": ("==", 0.0), "keys_doubled": ("==", 0.0)}
        if arguments.only != "faults":
            figures |= _overhead(Path(temporary), arguments.quick, arguments.pairs)
            targets["overhead"] = ("<", 0.05)
    return finish("fleet", figures, targets, arguments.quick)


def _faults(folder: Path, quick: bool) -> dict[str, float]:
    """What a campaign on a fleet, whose measuring worker is killed now and then, has beside one that nobody disturbs."""
    networks, rounds = (10, 20) if quick else (24, 30)
    _run(_profile(folder / "plain", SPACE, networks, 2))
    with ExitStack() as stack:
        apart = _in_namespaces(stack)
        kills = _torment(folder, networks, rounds, apart)
    plain, killed = (lc.read_table(folder / name / "table.parquet") for name in ("plain", "killed"))
    keys = [Counter((r["level"], r["role"], r["key"]) for r in table.rows.to_pylist()) for table in (plain, killed)]
    parts = len(list((folder / "killed" / "parts").glob("*.parquet")))
    return {
        "workers": float(WORKERS),
        "in_network_namespaces": float(apart),
        "kills": float(kills),
        "networks_failed": float(killed.level("network")["status"].to_pylist().count("failed")),
        "measurements_missing": float(_measured(networks) * rounds - parts),
        "keys": float(len(killed)),
        "keys_lost": float((keys[0] - keys[1]).total()),
        "keys_doubled": float((keys[1] - keys[0]).total() + sum(count - 1 for count in keys[1].values())),
    }


def _overhead(folder: Path, quick: bool, wanted: int | None) -> dict[str, float]:
    space, networks, rounds, pairs = (SPACE, 10, 10, 2) if quick else ("ofa-mobilenetv3", 20, 8, 5)
    runs = _side_by_side(folder, space, networks, rounds, wanted or pairs)
    return {
        "pairs": float(len(runs)),
        "local_campaign_s": median(here.seconds for here, _ in runs),
        "fleet_campaign_s": median(there.seconds for _, there in runs),
        "overhead": median(there.seconds / here.seconds - 1 for here, there in runs),
        "overhead_largest": max(there.seconds / here.seconds - 1 for here, there in runs),
        "overhead_outside_measuring": median((there.outside_s - here.outside_s) / here.seconds for here, there in runs),
        "local_undisturbed": median(here.undisturbed for here, _ in runs),
        "fleet_undisturbed": median(there.undisturbed for _, there in runs),
    }


@dataclass(frozen=True)
class _Campaign:
    """How long one took, how much of that no network was being measured, and the share of the runs that nothing disturbed."""

    seconds: float
    outside_s: float
    undisturbed: float


def _measured(networks: int) -> int:
    return networks + networks // 4


def _profile(folder: Path, space: str, networks: int, rounds: int) -> list[str]:
    return [
        *LAYERCLOCK, "profile", "--device", DEVICE, "--space", space, "--networks", str(networks), "--holdout", str(networks // 4),
        "--calibration", "0", "--rounds", str(rounds), "--max-noise", "10", "--quiet", "-o", str(folder),
    ]  # fmt: skip


def _run(command: list[str]) -> float:
    start = monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return monotonic() - start


@contextmanager
def _member(words: list[str], namespace: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A member of the fleet, killed at the end; ``ip netns exec`` becomes the command, so that its process is the worker's."""
    inside = ["ip", "netns", "exec", namespace] if namespace else []
    process = subprocess.Popen([*inside, *LAYERCLOCK, "fleet", *words], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _torment(folder: Path, networks: int, rounds: int, apart: bool) -> int:
    """A campaign on the fleet, whose measuring worker is killed and replaced now and then; returns how often."""
    kills = 0
    port = _free_port()
    address = f"tls://{_NETWORK}.1:{port}" if apart else f"tcp://127.0.0.1:{port}"
    files = _certificates(folder) if apart else []
    with ExitStack() as stack:
        stack.enter_context(_member(["scheduler", "--listen", address, *files]))

        def worker(number: int) -> subprocess.Popen[bytes]:
            words = ["worker", "--scheduler", address, "--device", DEVICE, "--name", f"b{number}", *files]
            return stack.enter_context(_member(words, f"lc-board{number}" if apart else ""))

        workers = [worker(number) for number in range(WORKERS)]
        campaign = subprocess.Popen(
            [*_profile(folder / "killed", SPACE, networks, rounds), "--fleet", address, *files], stdout=subprocess.DEVNULL
        )
        last = monotonic()
        while campaign.poll() is None:
            sleep(0.2)
            measuring = [number for number, process in enumerate(workers) if _descendants(process.pid)]
            if measuring and monotonic() - last >= SECONDS_BETWEEN_KILLS:
                last = monotonic()
                workers[measuring[0]].send_signal(signal.SIGKILL)
                workers[measuring[0]].wait()
                workers[measuring[0]] = worker(measuring[0])
                kills += 1
                print(f"{kills} kills, {len(list((folder / 'killed' / 'parts').glob('*.parquet')))} parts", file=sys.stderr, flush=True)
        if campaign.returncode:
            raise SystemExit(f"the campaign ended with {campaign.returncode}")
    return kills


def _side_by_side(folder: Path, space: str, networks: int, rounds: int, pairs: int) -> list[tuple[_Campaign, _Campaign]]:
    """Pairs of a local campaign and one on a fleet, in turns, each pair in the other order than the one before; exported beforehand."""
    runs: list[tuple[_Campaign, _Campaign]] = []
    address = f"tcp://127.0.0.1:{_free_port()}"
    with _member(["scheduler", "--listen", address]), _member(["worker", "--scheduler", address, "--device", DEVICE, "--name", "b0"]):
        _run([*_profile(folder / "first", space, networks, 2), "--fleet", address])
        for pair in range(pairs):
            found: dict[bool, _Campaign] = {}
            for there in (False, True) if pair % 2 else (True, False):
                own = folder / f"pair{pair}-{there}"
                command = _profile(own, space, networks, rounds)
                seconds = _run([*command, "--fleet", address] if there else command)
                told = lc.read_table(own / "table.parquet").interference
                found[there] = _Campaign(seconds, seconds - told["measured_s"], told["undisturbed_share"])
            runs.append((found[False], found[True]))
            print(f"pair {pair}: local {found[False]}, fleet {found[True]}", file=sys.stderr, flush=True)
    return runs


def _in_namespaces(stack: ExitStack) -> bool:
    """Make a network namespace for each worker, joined by a bridge, until ``stack`` ends; False where that is not allowed."""
    if shutil.which("ip") is None or shutil.which("openssl") is None:
        return False

    program = shutil.which("ip") or "ip"

    def ip(*words: str) -> bool:
        return subprocess.run([program, *words], capture_output=True, check=False).returncode == 0

    stack.callback(ip, "link", "delete", "lc-bridge")
    if not (ip("link", "add", "lc-bridge", "type", "bridge") and ip("addr", "add", f"{_NETWORK}.1/24", "dev", "lc-bridge")):
        return False
    if not ip("link", "set", "lc-bridge", "up"):
        return False
    for number in range(WORKERS):
        board = f"lc-board{number}"
        stack.callback(ip, "netns", "delete", board)
        steps = (
            ("netns", "add", board),
            ("link", "add", f"lc-veth{number}", "type", "veth", "peer", "name", "eth0", "netns", board),
            ("link", "set", f"lc-veth{number}", "master", "lc-bridge", "up"),
            ("-n", board, "addr", "add", f"{_NETWORK}.{number + 2}/24", "dev", "eth0"),
            ("-n", board, "link", "set", "eth0", "up"),
            ("-n", board, "link", "set", "lo", "up"),
        )
        if not all(ip(*step) for step in steps):
            return False
    return True


def _certificates(folder: Path) -> list[str]:
    """An authority and one member's certificate, as docs/fleet.md makes them; returns the options that name them."""
    program = shutil.which("openssl") or "openssl"
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    steps = (
        ["req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=fleet authority"],
        ["req", *curve, "-keyout", "member.key", "-out", "member.csr", "-subj", "/CN=fleet member"],
        ["x509", "-req", "-in", "member.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-out", "member.pem"],
    )
    for step in steps:
        subprocess.run([program, *step], cwd=folder, check=True, capture_output=True)
    return ["--tls-ca", str(folder / "ca.pem"), "--tls-cert", str(folder / "member.pem"), "--tls-key", str(folder / "member.key")]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
