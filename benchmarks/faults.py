"""A campaign under faults: killed again and again, with networks that crash and hang; no row may be lost or doubled.

On ``fake:cpu``, whose faults are real ones (SIGSEGV, an endless loop), so that the figure does not depend on a runtime's own
bugs. The campaign's process is killed with SIGKILL at random moments, at times one of its workers instead, and started
again until it ends; its table is then held against that of a campaign that nobody disturbed. A network hangs after three
seconds: on a busy machine a healthy one may take one.

``python benchmarks/faults.py [--quick]``
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import numpy as np
from report import finish

import layerclock as lc
from layerclock.devices.export import Exporter
from layerclock.profiler.plan import make_plan

SPACE = "digits-mobilenetv3:width=0.25,resolution=32"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 kills, 2 crashing and 2 hanging networks of 24")
    quick = parser.parse_args().quick
    kills, faulty, networks, holdout = (20, 2, 18, 6) if quick else (200, 20, 80, 20)
    index = lc.SiteIndex.of(lc.load_space(SPACE))
    plan = make_plan(index, networks, holdout)
    export = Exporter(lc.load_space(SPACE))
    genomes = np.concatenate([plan.profiled, plan.holdout])
    digests = [export(genome).digest for genome in genomes]
    chosen = np.random.default_rng(0).permutation(networks)[: 2 * faulty].tolist()
    crash, hang = ([digests[number] for number in part] for part in (chosen[:faulty], chosen[faulty:]))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = [
            sys.executable, "-m", "layerclock", "profile", "--device", "fake:cpu", "--space", SPACE, "--networks", str(networks),
            "--holdout", str(holdout), "--rounds", "12", "--limit", "3s", "--option", f"crash={' '.join(crash)}",
            "--option", f"hang={' '.join(hang)}", "--max-noise", "1", "--quiet", "-o",
        ]  # fmt: skip
        start = monotonic()
        subprocess.run([*command, str(folder / "calm")], check=True, stdout=subprocess.DEVNULL)
        calm_s = monotonic() - start
        done, left_over = _torment([*command, str(folder / "killed")], kills)
        calm, killed = (lc.read_table(folder / name / "table.parquet") for name in ("calm", "killed"))
        failed = [row for row in killed.level("network").to_pylist() if row["status"] == "failed"]
        keys = [Counter((r["level"], r["role"], r["key"]) for r in table.rows.to_pylist()) for table in (calm, killed)]
        figures = {
            "kills": float(done),
            "networks_that_crash": float(sum("SIGSEGV" in row["reason"] for row in failed)),
            "networks_that_hang": float(sum("did not end within" in row["reason"] for row in failed)),
            "rows": float(len(killed)),
            "rows_lost": float((keys[0] - keys[1]).total()),
            "rows_doubled": float((keys[1] - keys[0]).total() + sum(count - 1 for count in keys[1].values())),
            "networks_with_other_samples": float(sum(_samples(calm)[key] != count for key, count in _samples(killed).items())),
            "processes_left_over": float(left_over),
            "undisturbed_campaign_s": calm_s,
        }
    targets = {
        "kills": (">=", float(kills)),
        "networks_that_crash": ("==", float(faulty)),
        "networks_that_hang": ("==", float(faulty)),
        "rows_lost": ("==", 0.0),
        "rows_doubled": ("==", 0.0),
        "networks_with_other_samples": ("==", 0.0),
        "processes_left_over": ("==", 0.0),
    }
    return finish("faults", figures, targets, quick)


def _torment(command: list[str], kills: int) -> tuple[int, int]:
    """Run ``command`` to its end while killing it; returns how often, and how many processes outlived their campaign."""
    generator = random.Random(1)  # noqa: S311 - no secret
    done = left_over = 0
    folder = Path(command[-1])
    while True:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if done >= kills:
            if process.wait() == 0:
                return done, left_over
            continue
        parts = len(list((folder / "parts").glob("*.parquet"))) if folder.exists() else 0
        # Most kills hit the middle of measuring, where a part is being written; some the start.
        patience = monotonic() + generator.uniform(0.2, 12.0)
        wanted = parts + generator.randint(0, 12)
        while process.poll() is None and monotonic() < patience and len(list((folder / "parts").glob("*.parquet"))) < wanted:
            sleep(0.002)
        sleep(generator.uniform(0, 0.02))
        if process.poll() is not None:
            if process.returncode:
                raise SystemExit(f"the campaign ended by itself with {process.returncode}: run its command to see why: {command}")
            # It ended before it was killed: measure anew, so that every kill hits a campaign at work.
            for part in list((folder / "parts").glob("*.parquet"))[::2]:
                part.unlink()
            continue
        workers = _descendants(process.pid)
        if workers and generator.random() < 0.3:
            _kill(generator.choice(workers))
            done += 1
            sleep(generator.uniform(0, 3))  # it has to find out, and to replace the worker
            workers = _descendants(process.pid)
        _kill(process.pid)
        process.wait()
        done += 1
        patience = monotonic() + 3.0
        while any(map(_is_alive, workers)) and monotonic() < patience:
            sleep(0.02)
        left_over += sum(map(_is_alive, workers))
        print(f"{done} kills, {len(list((folder / 'parts').glob('*.parquet')))} parts", file=sys.stderr, flush=True)


def _descendants(process: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(status.parent.name))
    found, pending = [], [process]
    while pending:
        for child in children.get(pending.pop(), []):
            found.append(child)
            pending.append(child)
    return found


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _samples(table: lc.LatencyTable) -> dict[str, int]:
    """Samples of each network, by its key; a network that failed has those of the rounds before."""
    return {row["key"]: row["n_samples"] for row in table.level("network").to_pylist()}


if __name__ == "__main__":
    sys.exit(main())
