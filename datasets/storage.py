"""Where a dataset lies, through fsspec: a folder, ``memory://`` or an object store. Files appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import fsspec
import pyarrow.fs as pafs
from fsspec.implementations.local import LocalFileSystem

from layerclock.errors import MissingExtraError, OutputError, TableError

__all__ = ["Storage"]


class Storage:
    """A folder at a URL that fsspec knows. Credentials and endpoints are the environment's (``AWS_ENDPOINT_URL`` and the like).

    Raises :class:`~layerclock.errors.MissingExtraError` where the URL needs a package that is not installed,
    :class:`~layerclock.errors.TableError` for a URL of no known kind.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            self._files, self.root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise MissingExtraError(url.partition(":")[0], "object-store", f"the dataset {url}") from error
        except ValueError as error:
            raise TableError(f"{url} is no place for a dataset: {error}", "give a folder, memory://NAME or s3://BUCKET/FOLDER") from error
        self.root = self.root.rstrip("/")
        self._local = isinstance(self._files, LocalFileSystem)

    @property
    def arrow(self) -> pafs.FileSystem:
        """The same for pyarrow."""
        return pafs.LocalFileSystem() if self._local else pafs.PyFileSystem(pafs.FSSpecHandler(self._files))

    def names(self, folder: str) -> dict[str, int]:
        """Names in ``folder`` (relative to the root) with their sizes in bytes; none if it does not exist."""
        self._files.invalidate_cache()
        try:
            found = self._files.ls(self.path(folder), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise TableError(f"cannot list {self.url}/{folder}: {error}", "is it there, and may you read it?") from error
        return {str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]: int(entry["size"] or 0) for entry in found}

    def path(self, name: str) -> str:
        """The whole path of a file or folder below the root."""
        return f"{self.root}/{name}" if name else self.root

    def read(self, name: str) -> bytes:
        """The content of a file. Raises ``FileNotFoundError`` if it is gone."""
        content: bytes = self._files.cat_file(self.path(name))
        return content

    def write(self, name: str, content: bytes) -> None:
        """Put a file in place, whole or not at all; one of that name is replaced. Raises :class:`OutputError`."""
        self._put(name, content, only_new=False)

    def create(self, name: str, content: bytes) -> bool:
        """Put a file in place unless there is one of that name, of several writers at once exactly one succeeds: whether it did."""
        return self._put(name, content, only_new=True)

    def remove(self, name: str) -> None:
        """Delete a file, if it is there."""
        try:
            self._files.rm_file(self.path(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise OutputError(f"cannot delete {self.url}/{name}: {error}", "may you write there?") from error

    def _put(self, name: str, content: bytes, *, only_new: bool) -> bool:
        path = self.path(name)
        try:
            if self._local:
                return _put_local(Path(path), content, only_new=only_new)
            if only_new:
                self._files.pipe_file(path, content, mode="create")
            else:
                self._files.pipe_file(path, content)
        except FileExistsError:
            return False
        except OSError as error:
            raise OutputError(f"cannot write {self.url}/{name}: {error}", "is there space, and may you write there?") from error
        return True


def _put_local(path: Path, content: bytes, *, only_new: bool) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4().hex}.draft")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if only_new:
            os.link(draft, path)  # fails if the name is taken, and the name has its whole content from the start
        else:
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return True
