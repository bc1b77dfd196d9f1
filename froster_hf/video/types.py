"""What every part of the decoder speaks of: the errors, the limits, and what is known of a video.

Pure Python, since the decoding process imports it too and must start fast.
"""

import errno
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, get_type_hints

NO_SUCH_FILE = "there is no such file"
# Paths have 4096 bytes at most; addresses with signatures may be longer.
LONGEST_PATH = 16_384
# What reads live sources, in a process that may open connections.
LIVE_READER = "live"
# Errors of opening a file that say nothing of the file, and Python's word for another one of the system.
_LACKS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_NO_THREAD = "can't start new thread"


class VideoDecodeError(ValueError):
    """A video could not be decoded exactly, within its limits.

    The one error that a bad file, URL or byte string raises, whichever backend reads it. It passes from `DataLoader`
    workers as what it is; torch rebuilds it there from its message alone.

    Args:
        file: The file, URL or kind of object as the caller gave it; of a URL, neither its account nor its query.
        backend: What was reading it.
        reason: What is wrong.
    """

    def __init__(self, file: str, backend: str = "", reason: str = ""):
        if reason == NO_SUCH_FILE or backend == LIVE_READER:
            # The fault of a name or of a camera, with which no decoder has anything to do.
            super().__init__(f"{file!r}: {reason}")
        else:
            super().__init__(f"Cannot decode {file!r} with {backend}: {reason}" if reason else file)
        self.file = file
        self.backend = backend
        self.reason = reason

    def __reduce__(self):
        return type(self), (self.file, self.backend, self.reason)


class UnreadableVideoError(Exception):
    """The reason of a `VideoDecodeError`, raised where the file's name is not known."""


class DecoderKilledError(UnreadableVideoError):
    """The decoding process was ended from outside, for which the video need not be the reason."""


def path_error(error: OSError | ValueError) -> Exception:
    """What is wrong with a path that cannot be opened, or with the system; a `ValueError` is one with a NUL byte."""
    if (lack := system_lack(error)) is not None:
        return lack
    if isinstance(error, FileNotFoundError):
        return UnreadableVideoError(NO_SUCH_FILE)
    return UnreadableVideoError(getattr(error, "strerror", None) or str(error))


def system_lack(error: BaseException) -> "SystemLacksError | None":
    """What the system lacks, where an error says so: Python's own, since what FFmpeg calls so may be a file's."""
    if isinstance(error, OSError) and type(error).__module__ == "builtins" and error.errno in _LACKS:
        return SystemLacksError(error.errno, error.strerror)
    if isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
        return SystemLacksError(errno.EAGAIN, _NO_THREAD)
    return None


class DecodingUnavailableError(RuntimeError):
    """This machine cannot decode at the moment, whatever the video: no process, memory, descriptor or interpreter.

    Not a `VideoDecodeError`, so that no video is skipped, replaced or counted as undecodable because of it: it stops
    the work. The message says what is missing and what to do.
    """


class SystemLacksError(OSError):
    """The reason of a `DecodingUnavailableError` that shows in the decoding process: what any file takes."""


class BackendUnavailableError(DecodingUnavailableError, ImportError):
    """The chosen backend is not installed, or does not load."""


# Far beyond any use, and still a number that every system call takes.
_MOST_BYTES = 2**62
_MOST_SECONDS = 10**9


@dataclass(frozen=True)
class VideoLimits:
    """What one video may cost. A file beyond a limit raises `VideoDecodeError` before its frames are decoded.

    Every limit is a positive number: pixels, frames and bytes are whole and at most 2**62, seconds at most 10**9.

    Args:
        max_pixels: Pixels in one frame; the default admits 4096 x 2304.
        max_frames: Frames in the file.
        max_duration_seconds: Length of the file, on a player's clock.
        max_file_bytes: Size of a file on disk.
        max_memory_bytes: Size of a video that is held in memory (bytes, file-like objects, downloads).
        max_decoded_bytes: Size of the decoded frames of one call, T * 3 * h * w, repeats included.
        max_worker_bytes: Memory that the decoding process may allocate, where the system can enforce it (Linux).
        timeout_seconds: Time for one call from its beginning to its end, download included, without what the caller's
            own functions take; for a stream, time for one frame.
    """

    max_pixels: int = 4096 * 2304
    max_frames: int = 2_000_000
    max_duration_seconds: float = 24 * 3600.0
    max_file_bytes: int = 64 * 2**30
    max_memory_bytes: int = 2**30
    max_decoded_bytes: int = 2 * 2**30
    max_worker_bytes: int = 4 * 2**30
    timeout_seconds: float = 60.0

    def __post_init__(self):
        for name, default in ((field.name, field.default) for field in fields(self)):
            value, is_whole = getattr(self, name), isinstance(default, int)
            is_number = isinstance(value, Integral if is_whole else Real) and not isinstance(value, bool)
            most = _MOST_BYTES if is_whole else _MOST_SECONDS
            if not is_number or not 0 < value <= most:
                whole = "whole " if is_whole else ""
                raise ValueError(
                    f"VideoLimits.{name} is {value!r}, but must be a {whole}positive number of at most {most}."
                )
            # NumPy's numbers do not pass through JSON.
            object.__setattr__(self, name, int(value) if is_whole else float(value))

    @classmethod
    def of(cls, limits: Mapping[str, Any] | None) -> "VideoLimits":
        """The limits that a mapping names, the others at their defaults.

        Raises:
            ValueError: a name that is not a limit, or a value that is not a positive number.
        """
        allowed = [field.name for field in fields(cls)]
        if unknown := [name for name in limits or {} if name not in allowed]:
            raise ValueError(f"No such video limits: {', '.join(unknown)}. They are: {', '.join(allowed)}.")
        return cls(**(limits or {}))

    def check(self, name: str, value: float, what: str) -> None:
        """Refuse what costs more than a limit allows.

        Args:
            name: name of the limit.
            value: what it bounds.
            what: the same in words, for the error.

        Raises:
            UnreadableVideoError: the value is beyond the limit.
        """
        limit = getattr(self, name)
        if value > limit:
            raise UnreadableVideoError(f"{what}; VideoLimits.{name} is {limit:.0f}")


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video. Every figure is counted from its packets or frames; none is taken from the header.

    Args:
        num_frames: Frames that the file decodes to.
        fps: Frames per second on average, `num_frames / duration_seconds`.
        duration_seconds: From the first frame's time to the last frame's end.
        start_seconds: When the first frame is shown on a player's clock, which counts from the start of the file; more
            than zero where the sound starts before the picture.
        height: Pixels after rotation, stretched where the stored pixels are not square.
        width: Pixels after rotation, stretched where the stored pixels are not square.
        rotation: Degrees counter-clockwise by which the stored frames were turned: 0, 90, 180 or 270.
        is_mirrored: Whether they were mirrored left to right after that, as the file asks for.
        container: FFmpeg's name of the container, such as "mov,mp4,m4a,3gp,3g2,mj2".
        codec: FFmpeg's name of the codec, such as "h264".
        backend: The backend that read it, a name in `BACKENDS`.
    """

    num_frames: int
    fps: float
    duration_seconds: float
    start_seconds: float
    height: int
    width: int
    rotation: int
    is_mirrored: bool
    container: str
    codec: str
    backend: str

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> "VideoInfo":
        """The properties that another process states.

        Raises:
            TypeError: one is missing, unknown or of another type.
            ValueError: a number that is negative or not finite.
        """
        info = cls(**stated)
        for name, kind in get_type_hints(cls).items():
            value = getattr(info, name)
            if type(value) is not kind:
                raise TypeError(f"{name} is of type {type(value).__name__}, not {kind.__name__}")
            if kind in (int, float) and not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}")
        return info
