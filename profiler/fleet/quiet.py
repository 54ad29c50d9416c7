"""Dask's own words about every broken connection would hide ours, which say the same in one line."""

from __future__ import annotations

import logging

import distributed  # noqa: F401 - it gives its loggers their levels when it is imported

__all__ = ["quiet_dask"]


def quiet_dask() -> None:
    """Let Dask's loggers keep silent about what is no defect of its own."""
    for name in ("distributed", *(known for known in logging.root.manager.loggerDict if known.startswith("distributed."))):
        logging.getLogger(name).setLevel(logging.CRITICAL)
