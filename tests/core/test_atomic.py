from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from layerclock.atomic import make_folder, write_atomically
from layerclock.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_appears_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    write_atomically(path, lambda draft: draft.write_text("new"))
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError("power cut"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_crash_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write(draft: Path) -> None:
        draft.write_text("half of the n")
        raise error

    with pytest.raises(OutputError if isinstance(error, OSError) else type(error)):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_is_a_clear_error(tmp_path: Path) -> None:
    # Below a regular file, so that it fails for root as well.
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot make the folder .*file/below: Not a directory"):
        write_atomically(tmp_path / "file" / "below" / "x.txt", lambda draft: draft.write_text("x"))
    with pytest.raises(OutputError, match="cannot make the folder"):
        make_folder(tmp_path / "file")
