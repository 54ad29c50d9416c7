"""Where exported and prepared networks are kept."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["SCRATCH", "cache_folder", "scratch_folder"]

# Names the folder of a campaign's processes for files that are read at once; whoever starts them takes it away.
SCRATCH = "LAYERCLOCK_SCRATCH"


def cache_folder() -> Path:
    """``$LAYERCLOCK_CACHE``, else the user's cache folder."""
    chosen = os.environ.get("LAYERCLOCK_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "layerclock"


def scratch_folder() -> str | None:
    """Where temporary files go so that they are taken away even if this process is killed; None for where they always go."""
    return os.environ.get(SCRATCH)
