"""What the system and the encoders raise while a target is written, as errors that say what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DeviceError, FusionFFTError, MediaError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raises MediaError for what is raised about writing ``path``, and DeviceError for want of memory. Anything else is
    a bug and shows itself."""
    try:
        yield
    except FusionFFTError:
        raise
    except MemoryError as error:
        raise DeviceError(
            f"memory ran out while {path} was being written: close other programs, or write smaller frames"
        ) from error
    except OSError as error:
        raise _media_error(path, error) from error
    except Exception as error:
        # PyAV's errors are OSErrors only for some codes.
        if type(error).__module__.startswith("av."):
            raise _media_error(path, error) from error
        raise


def _media_error(path: Path, error: Exception) -> MediaError:
    number = getattr(error, "errno", None)
    if number in _FULL:
        return MediaError(f"disk full while writing {path}: free space or choose another folder")
    reason = getattr(error, "strerror", None) or error
    if number == errno.ENAMETOOLONG:
        return MediaError(f"the name {path} is too long for this disk: give one that is 30 letters shorter")
    if isinstance(error, FileNotFoundError):
        return MediaError(f"{path} cannot be written any more ({reason}): its folder is gone or was emptied, run again")
    if isinstance(error, OSError):
        return MediaError(f"{path} cannot be written ({reason}): choose another place")
    return MediaError(f"{path} cannot be written ({reason}): choose another place or another codec")
