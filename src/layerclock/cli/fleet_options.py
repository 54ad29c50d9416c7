"""Options of the verbs that can work on a fleet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from layerclock.cli.options import Duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from layerclock.profiler.fleet.cluster import Cluster
    from layerclock.profiler.fleet.safety import Certificates

__all__ = ["FleetChoice", "fleet_choice", "fleet_options", "given_certificates", "say", "tls_options"]

_META = "layerclock.fleet"


def _remember(context: click.Context, option: click.Parameter, value: Any) -> None:
    context.meta.setdefault(_META, {})[option.name] = value


def _option(*names: str, kind: Any, text: str, default: Any = None, shown: str | None = None) -> Callable[[Any], Any]:
    """An option that is kept in the context, so that verbs need not hand on each."""
    return click.option(
        *names, type=kind, default=default, show_default=shown or False, help=text, expose_value=False, callback=_remember
    )  # fmt: skip


_FILE = click.Path(path_type=Path, dir_okay=False)


def tls_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--tls-ca``, ``--tls-cert`` and ``--tls-key``; without them Dask's configuration counts."""
    return _all(
        _option("--tls-ca", kind=_FILE, text="Certificate of the authority that the fleet trusts."),
        _option("--tls-cert", kind=_FILE, text="This member's certificate."),
        _option("--tls-key", kind=_FILE, text="Key of that certificate."),
    )(function)


def fleet_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--fleet`` and what belongs to it."""
    waiting = "How long a scheduler, board or worker is waited for."
    return _all(
        _option("--fleet", kind=str, text="Scheduler of a fleet, such as tls://lab:8786: work there. See docs/fleet.md."),
        _option("--fleet-wait", kind=Duration(), default=300.0, shown="5m", text=waiting),
        tls_options,
    )(function)


def _all(*decorators: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorated


@dataclass(frozen=True, slots=True)
class FleetChoice:
    """Which fleet was named, and how long to wait for it."""

    address: str
    wait_s: float

    def connect(self) -> Cluster:
        """The fleet, connected when it is entered."""
        from layerclock.profiler.fleet.cluster import Cluster

        return Cluster(self.address, given_certificates(), self.wait_s, say)


def fleet_choice() -> FleetChoice | None:
    """The fleet that the present command was given, if any."""
    given = click.get_current_context().meta.get(_META, {})
    return FleetChoice(given["fleet"], given["fleet_wait"]) if given.get("fleet") else None


def given_certificates() -> Certificates:
    """The certificates that the present command was given."""
    from layerclock.profiler.fleet.safety import Certificates

    given = click.get_current_context().meta.get(_META, {})
    return Certificates(given.get("tls_ca"), given.get("tls_cert"), given.get("tls_key"))


def say(text: str) -> None:
    """What happens in the fleet, on standard error."""
    click.echo(f"fleet: {text}", err=True)
