"""NEW."""

HOURS_OF_WEEK = 168
# 1970-01-01 was a Thursday; hour 0 of the week is Monday 00:00 UTC.
_EPOCH_HOUR_OF_WEEK = 3 * 24
_HOUR = 3_600_000


def stratum_of(start: int, strata: int) -> int:
    """Stratum of a pane that starts at epoch milliseconds `start`: hour of the week (from Monday 00:00 UTC) or day.

    By hand: 0 (Thursday 1970-01-01 00:00) is hour 72 of the week.
    """
    return (start // _HOUR + _EPOCH_HOUR_OF_WEEK) % HOURS_OF_WEEK % strata
