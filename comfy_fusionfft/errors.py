"""The error tree.

Every message says what was received, what is needed and what to do about it, on its first line:
the command line prints that line alone, and ComfyUI's newer front end shows little more.
"""


class FusionFFTError(Exception):
    """Base of every error this library raises on purpose."""


def quoted(value: object, most: int = 100) -> str:
    """What somebody gave, as it stands in a message: of something endless its beginning."""
    text = repr(value[: most + 1] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= most else f"{text[:most]}…"


class InputError(FusionFFTError):
    """Frames, files or arguments that cannot be used as given."""


class MediaError(InputError):
    """A video or image that cannot be read or written."""


class OutputExistsError(InputError):
    """The output is already there and overwriting was not asked for."""


class TimelineError(InputError):
    """Output instants that cannot be made from this clip by this model."""


class CheckpointError(FusionFFTError):
    """A weights file that no family, or more than one, can claim, or that is damaged."""


class DownloadError(FusionFFTError):
    """A weights file that could not be fetched or verified."""


class DeviceError(FusionFFTError):
    """A device or precision this machine does not have, or memory that does not suffice."""


class Cancelled(FusionFFTError):
    """The user asked to stop. What was finished before is kept."""
