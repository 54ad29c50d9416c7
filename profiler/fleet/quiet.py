"""Dask, made quiet: its own words about every broken connection would hide ours, and what it watches itself by disturbs measurements."""

from __future__ import annotations

import logging

import distributed  # noqa: F401 - it gives its loggers their levels when it is imported

__all__ = ["CALM", "quiet_dask"]

# Settings of Dask under which a member that waits hardly wakes up: fifty times a second otherwise.
CALM = {
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.cycle": "10s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.active-memory-manager.start": False,
}


def quiet_dask() -> None:
    """Let Dask's loggers keep silent about what is no defect of its own."""
    for name in ("distributed", *(known for known in logging.root.manager.loggerDict if known.startswith("distributed."))):
        logging.getLogger(name).setLevel(logging.CRITICAL)
