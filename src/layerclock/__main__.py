"""``python -m layerclock`` is the command ``layerclock``."""

from __future__ import annotations

from layerclock.cli import main

if __name__ == "__main__":
    main()
