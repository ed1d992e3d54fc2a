"""The two branches of failure: what may be tried again and what must stop the process uncommitted."""

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.masking import masked


class StreamError(Exception):
    """The root of what this project raises on purpose; its message holds no credentials, whatever a library said."""

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))


class Retryable(StreamError):
    """The world may be better in a moment: abort, keep the offsets, try again."""


class StoreUnreachable(Retryable):
    """The registry, or where snapshots are kept, gives no answer or not the one it should; Kafka may be well."""


# No room, no quota, read-only, and a device that fails (EIO): somebody mends each, and the same work succeeds.
_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM})
# Where an error is no OSError (Rust's libraries, MLflow): number and words together, as both write them. A number alone
# may be that of an upstream service, or of a database.
_WORDS = re.compile(
    "|".join(
        rf"\[Errno {number}\] {re.escape(os.strerror(number))}|{re.escape(os.strerror(number))} \(os error {number}\)"
        for number in sorted(_UNWRITABLE)
    )
)


class DiskUnwritable(Retryable):
    """A directory takes no files: what needs it waits, and goes on by itself when there is room."""


def unwritable(error: BaseException, ours: Iterable[Path] = ()) -> bool:
    """Return whether an error of our own code is of a disk that is full, broken or only readable.

    So is a file below ``ours``, directories that this process writes, that it may not open or make: no data and no
    model make that better or worse. What foreign code said of its error is no evidence; write a file there instead.
    """
    if not isinstance(error, OSError) or error.errno is None:
        return isinstance(error, DiskUnwritable) or _WORDS.search(str(error)) is not None
    if error.errno in _FORBIDDEN and error.filename:
        path = Path(os.fsdecode(error.filename)).absolute()
        return any(path.is_relative_to(directory.absolute()) for directory in ours)
    return error.errno in _UNWRITABLE


class RecordTooLarge(StreamError):
    """One record is larger than its topic takes: it alone is lost, and trying it again changes nothing."""


class TopicMissing(Retryable):
    """The broker answers and has not the topic: what waits for it waits for whoever makes it."""


class Fatal(StreamError):
    """Going on would lose or corrupt something: stop without committing, and say what to do."""


class ShorterLog(Fatal):
    """A partition ends before where it was read to: it is another log, or a broker lost records."""


class TopicReplaced(Fatal):
    """A topic of our own was deleted and created again since a role began to live by it: what it held is lost."""


class Fenced(Fatal):
    """Another process has taken this replica's place; this one must stop."""


class Displaced(Fenced):
    """The group gave this member's name to another: a successor's, or one of our own whose answer came too late.

    ``writing``: its producer was let in all the same, so that nobody else has its place.
    """

    writing = False


class Denied(Fatal):
    """The cluster does not let us in, or not do this; ``event`` is why, of the closed list."""

    def __init__(self, event: LogEvent, message: str) -> None:
        super().__init__(message)
        self.event = event
