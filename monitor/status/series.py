"""The points of a model's charts: one a subject and closed pane, as far back as a chart is wide."""

from collections import deque
from collections.abc import Mapping
from math import isfinite

from stationkeeper.contracts.model_status import MAX_POINTS, Series
from stationkeeper.monitor.core.charts import Chart
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.judge import WatchKey

# One closed pane in so many becomes a point while catching up: a point costs as much as a refresh; fewer points would
# hide short peaks.
GLANCE = 5

_Point = tuple[int, float | None, float | None, float | None]


class ChartSeries:
    """The latest ``MAX_POINTS`` points of each subject, and the last closed pane of each watch (``ended``, ms)."""

    def __init__(self) -> None:
        self._points: dict[tuple[WatchKey, str], deque[_Point]] = {}
        self.ended: dict[WatchKey, int] = {}

    def glance(self, watches: Mapping[WatchKey, Watch], left: int) -> None:
        """Note a point of each subject for a pane that closed with ``left`` more behind it.

        After a catch-up the charts show the way here, not only its end. Older panes than a chart holds are left out,
        of the others one in ``GLANCE``, because a point costs as much as a refresh.
        """
        if left > MAX_POINTS or left % GLANCE:
            return
        self.note(watches)

    def note(self, watches: Mapping[WatchKey, Watch]) -> list[tuple[WatchKey, Watch, Chart]]:
        """Note a point of each subject whose watch closed a pane since the last, and return all charts."""
        charts = []
        for key, watch in watches.items():
            for chart in watch.charts():
                charts.append((key, watch, chart))
                self._add(key, watch, chart)
            if watch.end is not None:
                self.ended[key] = watch.end
        return charts

    def keep(self, watches: Mapping[WatchKey, Watch]) -> None:
        """Let go of subjects whose watch is gone."""
        self._points = {at: points for at, points in self._points.items() if at[0] in watches}
        self.ended = {key: end for key, end in self.ended.items() if key in watches}

    def _add(self, key: WatchKey, watch: Watch, chart: Chart) -> None:
        # A flush without a closed pane of this watch would draw the last point twice.
        if watch.end is None or self.ended.get(key) == watch.end:
            return
        points = self._points.setdefault((key, chart.subject), deque(maxlen=MAX_POINTS))
        # JSON has no infinity, and a threshold of 0 means that nothing is judged.
        ratio = chart.evidence / chart.threshold if isfinite(chart.evidence) and chart.threshold > 0 else None
        psi = chart.distances.get("psi")
        known = psi is not None and chart.unknown is None
        points.append((watch.end, ratio, psi.value if known and psi else None, psi.noise if known and psi else None))

    def of(self, key: WatchKey, subject: str) -> Series | None:
        """Return a subject's points as columns; None before the first."""
        points = self._points.get((key, subject))
        if not points:
            return None
        time, ratio, distance, noise = (list(column) for column in zip(*points, strict=True))
        return {"time": time, "ratio": ratio, "distance": distance, "distance_name": "psi", "noise": noise}
