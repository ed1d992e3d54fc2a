"""One stream from its first version to its end: judged by a backtest's replay, cured by what requests bring."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_predict

from benchmarks.real_year.escalated import Escalated
from benchmarks.real_year.streams import DAY_MS, Array, RealStream
from stationkeeper.backtesting.replay import Replay, ReplaySettings
from stationkeeper.backtesting.table import Table
from stationkeeper.contracts.messages import Level, Verdict, VerdictKind
from stationkeeper.contracts.times import day_numbers, to_ms
from stationkeeper.monitor.core.budget import parse_budget
from stationkeeper.monitor.core.incidents import Incident, RequestPolicy, RequestRules
from stationkeeper.monitor.core.reference import Reference
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.profiling import profile
from stationkeeper.monitor.settings import ModelSettings, QualitySettings

# The days after a new version took over in which it and the old one are compared.
AFTER = 30
# The share of the rows since the change on which a gate compares: the latest, as the shipped one holds out.
HELD_OUT = 0.2


@dataclass(slots=True)
class Lived:
    """What a stream's time under watch came to; ``healed`` are requests whose incident was over before a new version.

    ``better`` of ``replaced`` versions were wrong less often than the old in the following 30 days. ``delays`` are the
    days from each known change to the next page, None where none came before the next change.
    """

    days: float
    pages: list[Verdict] = field(default_factory=list)
    warnings: list[Verdict] = field(default_factory=list)
    requests: int = 0
    healed: int = 0
    replaced: int = 0
    better: int = 0
    delays: list[float | None] = field(default_factory=list)


class Version:
    """A model of some rows of a stream: gradient boosting, as the demo's default trainer."""

    def __init__(self, stream: RealStream, rows: Array) -> None:
        self._stream, self.rows = stream, rows
        self._codes = {name: np.unique(stream.columns[name], return_inverse=True)[1] for name in stream.categorical}
        self._model = self._made()
        self._model.fit(self.matrix(rows), stream.label[rows])

    @staticmethod
    def _made() -> HistGradientBoostingClassifier:
        return HistGradientBoostingClassifier(random_state=0, early_stopping=False)

    def matrix(self, rows: Array) -> Array:
        """Return the features of some rows as numbers."""
        return np.column_stack([self._codes.get(n, v)[rows].astype(float) for n, v in self._stream.columns.items()])

    def scores(self, rows: Array) -> Array:
        """Return the chance of a positive."""
        return np.asarray(self._model.predict_proba(self.matrix(rows))[:, 1])

    def unseen_scores(self) -> Array:
        """Return the scores of its own rows by models that have not seen them, in five blocks of time."""
        label = self._stream.label[self.rows]
        found = cross_val_predict(self._made(), self.matrix(self.rows), label, cv=5, method="predict_proba")
        return np.asarray(found[:, 1])

    def wrong(self, rows: Array) -> float:
        """Return the share of wrong answers."""
        return float(np.mean((self.scores(rows) >= 0.5) != self._stream.label[rows]))


def reference_of(stream: RealStream, version: Version, name: str) -> Reference:
    """Profile the rows of a version with its scores, as retraining does."""
    rows = version.rows
    columns = {n: v[rows] for n, v in stream.columns.items()}
    columns |= {"@time": stream.times[rows], "@score": version.unseen_scores(), "@label": stream.label[rows]}
    return profile(
        pl.DataFrame(columns),
        model=stream.name,
        version=name,
        time="@time",
        pane=f"{stream.pane // 60_000}m",
        timezone=stream.timezone,
        prediction="@score",
        label="@label",
        categorical=list(stream.categorical),
    )


def live(stream: RealStream, *, harm: bool = False) -> Lived:
    """Follow a stream to its end: judge, ask, train when the labels are there, take what the held-out rows prefer.

    With ``harm`` drift pages and asks once it has shown some.
    """
    first = stream.reference
    lived = Lived((int(stream.times[-1]) - int(stream.times[first])) / DAY_MS)
    version, number, at = Version(stream, np.arange(first)), 1, first
    policy = RequestPolicy(RequestRules(pane=stream.pane))
    watch: Watch | None = None
    while at < len(stream.times):
        at, version, watch = _reign(stream, version, str(number), at, policy, lived, watch, harm=harm)
        number += 1
    bounds = [*stream.changes, int(stream.times[-1]) + 1]
    pages = [to_ms(page.time) for page in lived.pages]
    for change, following in pairwise(bounds):
        lived.delays.append(next(((page - change) / DAY_MS for page in pages if change <= page < following), None))
    return lived


def _reign(
    stream: RealStream,
    version: Version,
    name: str,
    at: int,
    policy: RequestPolicy,
    lived: Lived,
    before: Watch | None,
    *,
    harm: bool,
) -> tuple[int, Version, Watch | None]:
    """Judge from row ``at`` on until another version takes over; returns its first row (the end: none did) and it.

    The version's watch comes with them: the next one's knows the traffic that it has learned, as the judge's does.
    """
    rows = np.arange(at, len(stream.times))
    table = Table(
        {
            **{n: v[rows] for n, v in stream.columns.items()},
            "@score": version.scores(rows),
            "@label": stream.label[rows],
        },
        rows,
        stream.times[rows],
        stream.label_times[rows],
        "@score",
        "@label",
        stream.name,
        name,
    )
    usual = ModelSettings.model_fields
    settings = ReplaySettings(
        budget=parse_budget("1 per 30 days"),
        pane=stream.pane,
        window=20 * stream.pane,
        maturity=usual["label_maturity"].default,
        adoption=usual["adoption"].default,
        learn_traffic=QualitySettings().learn_traffic,
        categorical=stream.categorical,
        timezone=stream.timezone,
        holidays=day_numbers(stream.holidays),
    )
    replay = Replay(table, settings, reference_of(stream, version, name), before)
    asked: Incident | None = None
    asked_at = onset = healed = 0
    for verdict, incident in Escalated(replay, stream.pane, harm=harm).run():
        now = to_ms(verdict.time)
        if asked is not None and (due := _due(stream, onset, asked_at)) is not None and now >= due:
            taken = _replace(stream, version, onset, due, lived)
            if taken is not None:
                return (*taken, replay.watch)
            asked = None
        if verdict.level is Level.PAGE:
            lived.pages.append(verdict)
        elif verdict.level is Level.WARN:
            lived.warnings.append(verdict)
        if asked is not None and verdict.kind is VerdictKind.RECOVERED and verdict.incident == asked.id and not healed:
            lived.healed, healed = lived.healed + 1, 1
        if incident is None or verdict.level is not Level.PAGE or asked is not None:
            continue
        if policy.consider(incident, verdict, now=now) is not None:
            asked, asked_at, onset, healed = incident, now, int(incident.onset.time), 0
            lived.requests += 1
    return len(stream.times), version, replay.watch


def _due(stream: RealStream, onset: int, asked: int) -> int | None:
    """When enough labels of rows since the change are known, or the wait is over; None: not before the end."""
    known = np.sort(stream.label_times[stream.times >= onset])
    enough = int(known[stream.needed - 1]) if len(known) >= stream.needed else None
    late = asked + stream.wait
    due = max(min(enough if enough is not None else late, late), asked)
    return due if due < int(stream.times[-1]) else None


def _replace(stream: RealStream, old: Version, onset: int, due: int, lived: Lived) -> tuple[int, Version] | None:
    """Train on what is known of the rows since the change; None where the latest of them prefer the old version."""
    rows = np.flatnonzero((stream.times >= onset) & (stream.label_times <= due))
    cut = len(rows) - max(int(len(rows) * HELD_OUT), 1)
    if cut < 100 or len(np.unique(stream.label[rows[:cut]])) < 2:
        return None
    if Version(stream, rows[:cut]).wrong(rows[cut:]) >= old.wrong(rows[cut:]):
        return None
    new, at = Version(stream, rows), int(np.searchsorted(stream.times, due, "right"))
    after = np.arange(at, int(np.searchsorted(stream.times, due + AFTER * DAY_MS)))
    lived.replaced += 1
    if len(after):
        lived.better += new.wrong(after) < old.wrong(after)
    return at, new
