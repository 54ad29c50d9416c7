"""Where exported and prepared networks are kept."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """``$LAYERCLOCK_CACHE``, else the user's cache folder."""
    chosen = os.environ.get("LAYERCLOCK_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "layerclock"
