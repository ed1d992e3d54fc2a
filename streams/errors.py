"""The two branches of failure: what may be tried again and what must stop the process uncommitted."""


class StreamError(Exception):
    """The root of what this project raises on purpose."""


class Retryable(StreamError):
    """The world may be better in a moment: abort, keep the offsets, try again."""


class Fatal(StreamError):
    """Going on would lose or corrupt something: stop without committing, and say what to do."""
