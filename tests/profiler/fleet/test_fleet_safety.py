"""Beyond loopback nothing listens or connects without TLS, and with it only those whom the authority knows."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from fleet_processes import LAYERCLOCK, running_fleet

from layerclock.errors import FleetError
from layerclock.profiler.fleet.cluster import Cluster
from layerclock.profiler.fleet.members import run_scheduler, run_worker
from layerclock.profiler.fleet.safety import Certificates, safe_security

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ("fleet_processes",)


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def _certificates(folder: Path) -> Certificates:
    """An authority and a member's certificate, by the commands of docs/fleet.md."""
    if shutil.which("openssl") is None:
        pytest.skip("certificates are made with the program openssl, https://openssl.org")
    folder.mkdir()
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl(folder, "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "365", "-subj", "/CN=fleet authority")
    _openssl(folder, "req", *curve, "-keyout", "member.key", "-out", "member.csr", "-subj", "/CN=fleet member")
    _openssl(
        folder, "x509", "-req", "-in", "member.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "365",
        "-out", "member.pem",
    )  # fmt: skip
    return Certificates(folder / "ca.pem", folder / "member.pem", folder / "member.key")


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:0", "tcp://192.0.2.1:8786", "tcp://no-such-host.invalid:8786"])
def test_beyond_loopback_nothing_goes_without_tls(address: str) -> None:
    with pytest.raises(FleetError, match="beyond this machine, and without TLS") as refused:
        run_scheduler(address, Certificates(), print)
    assert "docs/fleet.md" in refused.value.hint
    with pytest.raises(FleetError, match="beyond this machine, and without TLS"):
        run_worker(address, ["fake:cpu"], None, Certificates(), print)
    with pytest.raises(FleetError, match="beyond this machine, and without TLS"):
        Cluster(address)


@pytest.mark.parametrize("address", ["127.0.0.1:8786", "ucx://127.0.0.1:8786", "tcp://127.0.0.1", "tcp://127.0.0.1:port", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(FleetError, match="no address of a scheduler"):
        safe_security(address, Certificates())


def test_tls_needs_its_files(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="needs certificates: tls_ca_file, tls_client_cert, tls_client_key"):
        safe_security("tls://127.0.0.1:8786", Certificates())
    with pytest.raises(FleetError, match="there is no certificate file"):
        safe_security("tls://127.0.0.1:8786", Certificates(tmp_path / "ca.pem"))
    assert not safe_security("tcp://localhost:8786", Certificates()).require_encryption


def test_with_tls_members_meet_and_strangers_do_not(plugin: Path, tmp_path: Path) -> None:
    own, strange = _certificates(tmp_path / "own"), _certificates(tmp_path / "strange")
    with running_fleet(tmp_path, "tls", own) as fleet:
        fleet.evaluator("e1")
        fleet.wait("e1")
        with pytest.raises(FleetError, match="no scheduler answers"), Cluster(fleet.address, strange, 0.5):
            pass
        with pytest.raises(FleetError, match="no scheduler answers"), Cluster(fleet.address.replace("tls", "tcp"), None, 0.5):
            pass
        files = {"CA_FILE": own.ca, "CLIENT__CERT": own.cert, "CLIENT__KEY": own.key}
        listed = subprocess.run(
            [LAYERCLOCK, "fleet", "members", "--scheduler", fleet.address],
            env={"PATH": "", **{f"DASK_DISTRIBUTED__COMM__TLS__{name}": str(file) for name, file in files.items()}},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert listed.returncode == 0, listed.stderr
    assert "e1" in listed.stdout
    assert "evaluations" in listed.stdout
