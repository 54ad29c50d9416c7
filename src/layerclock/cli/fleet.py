"""``layerclock fleet``: the members of a fleet."""

from __future__ import annotations

import click

from layerclock.cli.fleet_options import FleetChoice, given_certificates, say, tls_options
from layerclock.cli.output import json_option, print_json, print_table


@click.group("fleet")
def command() -> None:
    """Measure on boards elsewhere: a scheduler, a worker on each board, and `layerclock profile --fleet ...` at the desk.

    Members are Dask's, and run what the scheduler tells them: beyond one machine they talk TLS or not at all.

    \b
    Examples: layerclock fleet scheduler --listen tls://0.0.0.0:8786 --tls-ca ca.pem --tls-cert me.pem --tls-key me.key
              layerclock fleet worker --scheduler tls://lab:8786 --device onnxruntime:cpu --tls-ca ...
              layerclock fleet members --scheduler tcp://127.0.0.1:8786
    """


@command.command("scheduler")
@click.option("--listen", default="tcp://127.0.0.1:8786", show_default=True, help="Address to listen on.")
@tls_options
def scheduler(listen: str) -> None:
    """Be the fleet's scheduler until interrupted.

    Example: layerclock fleet scheduler --listen tls://0.0.0.0:8786 --tls-ca ca.pem --tls-cert me.pem --tls-key me.key
    """
    from layerclock.profiler.fleet.members import run_scheduler

    run_scheduler(listen, given_certificates(), say)


@command.command("worker")
@click.option("--scheduler", "address", required=True, help="Address of the scheduler, such as tls://lab:8786.")
@click.option("--device", "devices", multiple=True, help="Device of this board, as `layerclock devices` lists it; may be repeated. "
              "Without one, the worker takes accuracy evaluations.")  # fmt: skip
@click.option("--name", help="What the board is called; by default after its host and devices.")
@click.option("--evaluations", default=1, show_default=True, type=click.IntRange(min=1),
              help="Without devices: evaluations at the same time.")  # fmt: skip
@tls_options
def worker(address: str, devices: tuple[str, ...], name: str | None, evaluations: int) -> None:
    """Hold this board's devices for the fleet, until interrupted.

    Example: layerclock fleet worker --scheduler tcp://127.0.0.1:8786 --device onnxruntime:cpu --name b1
    """
    from layerclock.plugins import open_device
    from layerclock.profiler.fleet.members import run_worker

    if devices and click.get_current_context().get_parameter_source("evaluations") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--evaluations is for workers without --device: an evaluation would disturb a measurement")
    for device in devices:
        open_device(device)  # here, where its error is seen
    run_worker(address, devices, name, given_certificates(), say, evaluations)


@command.command("members")
@click.option("--scheduler", "address", required=True, help="Address of the scheduler.")
@tls_options
@json_option
def members(address: str, as_json: bool) -> None:
    """List who holds which device.

    Example: layerclock fleet members --scheduler tcp://127.0.0.1:8786
    """
    with FleetChoice(address, 10.0).connect() as cluster:
        found = cluster.members()
    if as_json:
        print_json([{"name": one.name, "address": one.address, "holds": dict(one.resources)} for one in found])
        return
    rows = [(one.name, one.address, ", ".join(name for name, _ in one.resources)) for one in found]
    print_table(f"{len(found)} members of {address}", ("member", "address", "holds"), rows)
