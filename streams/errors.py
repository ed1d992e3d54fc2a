"""The two branches of failure: what may be tried again and what must stop the process uncommitted."""

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.masking import masked


class StreamError(Exception):
    """The root of what this project raises on purpose; its message holds no credentials, whatever a library said."""

    def __init__(self, message: str) -> None:
        super().__init__(masked(message))


class Retryable(StreamError):
    """The world may be better in a moment: abort, keep the offsets, try again."""


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


class Denied(Fatal):
    """The cluster does not let us in, or not do this; ``event`` is why, of the closed list."""

    def __init__(self, event: LogEvent, message: str) -> None:
        super().__init__(message)
        self.event = event
