"""Data quality of one watch: broken data is not drift, and has verdicts of its own.

In: closed panes in order. Out: findings (`Finding`) of rates that rose, of rules that hold, of volume and of silence.
State: evidence per rate and of volume, runs and silences per subject, learned traffic; all returned by ``state``.
Invariant: only rates and a reference's own volume spend false-alarm budget; a rule holds only when chance would give
what it saw with probability below exp(-30). Read `quality` first, then `rates`, `traces`, `arrivals` (with `volume`,
`learned_traffic` and `spells`), `rules` (with `cardinality`) and `unit_change`.
"""

from stationkeeper.monitor.core.quality.arrivals import TRAINING, Arrivals, hours_to_silence, own_traffic
from stationkeeper.monitor.core.quality.quality import Quality, QualityState
from stationkeeper.monitor.core.quality.rates import DUPLICATES_AND_LATE, TOLERANCE, UNSEEN_TOLERANCE, rate_count
from stationkeeper.monitor.core.quality.rules import RULES
from stationkeeper.monitor.core.quality.traces import TRACE_SHARE

__all__ = [
    "DUPLICATES_AND_LATE",
    "RULES",
    "TOLERANCE",
    "TRACE_SHARE",
    "TRAINING",
    "UNSEEN_TOLERANCE",
    "Arrivals",
    "Quality",
    "QualityState",
    "hours_to_silence",
    "own_traffic",
    "rate_count",
]
