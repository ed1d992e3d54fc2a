"""The closed list of why the router does not answer a request, and the error that carries it."""

from enum import StrEnum
from typing import Final


# Closed, because it is a label of a metric: a reason made up on the way would be a series without an alert or a text.
class Refusal(StrEnum):
    """Why a request was refused; the value is the metric label and the ``code`` of the answer."""

    UNKNOWN_MODEL = "unknown_model"
    NOT_READY = "not_ready"
    BAD_JSON = "bad_json"
    WRONG_TYPE = "wrong_type"
    MISSING_FEATURE = "missing_feature"
    BAD_TIME = "bad_time"
    NO_ROWS = "no_rows"
    TOO_MANY_ROWS = "too_many_rows"
    TOO_LARGE = "too_large"
    OVERLOADED = "overloaded"
    NOT_LOGGED = "not_logged"
    NO_SUCH_ROUTE = "no_such_route"
    FAILED = "failed"


# 404 is a name that is not there, 4xx what the caller can mend, 503 what time mends.
HTTP_STATUS: Final[dict[Refusal, int]] = {
    Refusal.UNKNOWN_MODEL: 404,
    Refusal.NOT_READY: 503,
    Refusal.BAD_JSON: 400,
    Refusal.WRONG_TYPE: 400,
    Refusal.MISSING_FEATURE: 400,
    Refusal.BAD_TIME: 400,
    Refusal.NO_ROWS: 400,
    Refusal.TOO_MANY_ROWS: 413,
    Refusal.TOO_LARGE: 413,
    Refusal.OVERLOADED: 503,
    Refusal.NOT_LOGGED: 503,
    Refusal.NO_SUCH_ROUTE: 404,
    Refusal.FAILED: 500,
}


class Refused(Exception):
    """A request that gets no answer; the message says what to do, ``field`` where the fault lies."""

    def __init__(self, reason: Refusal, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return HTTP_STATUS[self.reason]
