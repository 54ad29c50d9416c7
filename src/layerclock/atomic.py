"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from layerclock.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from layerclock.errors import LayerclockError

__all__ = ["locked", "make_folder", "write_atomically"]


def make_folder(folder: Path) -> Path:
    """Create ``folder`` with its parents; raises :class:`OutputError` if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror or error}", "choose a folder that you may write") from error
    if not os.access(folder, os.W_OK):
        raise OutputError(f"the folder {folder} cannot be written", "choose a folder that you may write")
    return folder


@contextmanager
def locked(folder: Path, refused: LayerclockError) -> Iterator[None]:
    """Keep other processes out of ``folder`` that ask for the same; the lock ends with the process, however it ends.

    Raises ``refused`` if another one holds it, and :class:`OutputError` if the folder cannot be written.
    """
    import fcntl  # here, for Windows has none, and a predictor can be asked there

    make_folder(folder)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise refused from error
        yield


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place.

    A crash leaves the old file or the new one, never a part. Raises :class:`OutputError` if the disk refuses.
    """
    make_folder(path.parent)
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
        draft = Path(name)
        try:
            write(draft)
            draft.chmod(0o644)
            with draft.open("rb") as file:
                os.fsync(file.fileno())  # or a power cut could leave the name without the content
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}", "free space, or choose another folder") from error
