"""A lock on a folder that ends with its process, however that ends."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from ..errors import MediaError

_LOCK_BYTE = 1 << 20  # beyond the process number, which others may read meanwhile


class Lock:
    """Held from the start. ``folder/lock`` holds the process number.

    target: what is being written, for the message. make: whether a missing folder is made; else FileNotFoundError.
    Raises MediaError when another holds it.
    """

    def __init__(self, folder: Path, target: Path, make: bool = True) -> None:
        self._path = folder / "lock"
        while not self._taken(folder, target, make):
            pass
        self.held = True
        if make:
            self._file.truncate(0)
            self._file.write(f"{os.getpid()}\n".encode())

    def release(self, remove: bool = False) -> None:
        """remove: the file goes too."""
        self.held = False
        if remove and os.name != "nt":  # while it is held: nobody can have taken it
            with suppress(OSError):
                self._path.unlink()
        self._file.close()
        if remove and os.name == "nt":  # which removes no open file
            with suppress(OSError):
                self._path.unlink()

    def _taken(self, folder: Path, target: Path, make: bool) -> bool:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        try:
            number = os.open(self._path, os.O_RDWR | (os.O_CREAT if make else 0), 0o644)
        except FileNotFoundError:
            if make:
                return False  # its last holder has just removed the folder
            raise
        self._file = os.fdopen(number, "r+b", buffering=0)
        if not _try_lock(number):
            process = self._file.read(20).decode(errors="replace").strip()
            self._file.close()
            raise MediaError(
                f"{target} is being written by another run (process {process or 'unknown'}): "
                "wait until it ends, stop it, or give another name"
            )
        # The holder before may have removed the file while this one was waiting to be opened.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(number), self._path.stat()):
                return True
        self._file.close()
        return False


def _try_lock(file: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            os.lseek(file, _LOCK_BYTE, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            os.lseek(file, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Anything else says that this file system has no locks: go on without.
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return True
