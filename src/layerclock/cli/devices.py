"""``layerclock devices``."""

from __future__ import annotations

from dataclasses import asdict

import click

from layerclock.cli.output import json_option, print_json, print_table
from layerclock.errors import DeviceError
from layerclock.interfaces import DeviceOptions
from layerclock.plugins import find_devices, load_space, open_device


@click.command("devices")
@click.option("--check", "checked", metavar="DEVICE", help="Run the conformance check of an adapter on a small network.")
@click.option("--precision", default="float32", show_default=True, help="With --check: fp32, bf16, fp16 or int8.")
@json_option
def command(checked: str | None, precision: str, as_json: bool) -> None:
    """List the devices that can be profiled here, and how to get the others.

    Example: layerclock devices --check openvino:CPU
    """
    if checked is not None:
        _check(checked, precision, as_json)
        return
    found = find_devices()
    if as_json:
        print_json([asdict(entry) for entry in found])
        return
    rows = [(entry.name, entry.description if entry.available else f"not available: {entry.reason}; {entry.hint}") for entry in found]
    print_table("", ("", ""), rows)


def _check(name: str, precision: str, as_json: bool) -> None:
    from layerclock.devices.conformance import check_device
    from layerclock.devices.export import Exporter

    device = open_device(name, DeviceOptions(precision=precision))
    space = load_space("digits-mobilenetv3:resolution=32,width=0.25")
    findings = check_device(device, Exporter(space)([0] * len(space.genes)))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        rows = [("kept" if finding.kept else "BROKEN", finding.rule, "" if finding.kept else finding.detail) for finding in findings]
        print_table(f"Conformance of {name}", ("", "rule", "detail"), rows)
    broken = [finding for finding in findings if not finding.kept]
    if broken:
        raise DeviceError(f"{name} breaks {len(broken)} of {len(findings)} rules", "see layerclock.interfaces for what an adapter promises")
