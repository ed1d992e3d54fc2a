"""Data quality of one watch: broken data is not drift, and has verdicts of its own.

In: closed panes in order. Out: findings (`Finding`) of rates that rose, of rules that hold, of volume and of silence.
State: evidence per rate and of volume, runs and silences per subject, learned traffic; all returned by ``state``.
Invariant: only rates and a reference's own volume spend false-alarm budget; a rule speaks only when chance would give
what it saw with probability below exp(-30). Read `quality` first, then `rates`, `arrivals` (with `volume` and
`learned_traffic`), `rules` (with `cardinality`) and `unit_change`.
"""

from stationkeeper.monitor.core.quality.arrivals import TRAINING
from stationkeeper.monitor.core.quality.cardinality import WINDOW_ROWS, Cardinality, unusual
from stationkeeper.monitor.core.quality.learned_traffic import LearnedTraffic
from stationkeeper.monitor.core.quality.quality import Quality, QualityState
from stationkeeper.monitor.core.quality.rates import TOLERANCE, UNSEEN_TOLERANCE, rate_checks, rate_count
from stationkeeper.monitor.core.quality.rules import RULES
from stationkeeper.monitor.core.quality.unit_change import unit_change
from stationkeeper.monitor.core.quality.volume import FACTORS, VolumeDetector, negative_binomial_log_ratio

__all__ = [
    "FACTORS",
    "RULES",
    "TOLERANCE",
    "TRAINING",
    "UNSEEN_TOLERANCE",
    "WINDOW_ROWS",
    "Cardinality",
    "LearnedTraffic",
    "Quality",
    "QualityState",
    "VolumeDetector",
    "negative_binomial_log_ratio",
    "rate_checks",
    "rate_count",
    "unit_change",
    "unusual",
]
