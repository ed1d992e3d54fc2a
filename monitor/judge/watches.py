"""The watches of one model: which there are, on which reference each runs, and what a closed pane does to them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from stationkeeper.contracts.messages import Verdict
from stationkeeper.contracts.state import State
from stationkeeper.contracts.times import day_numbers
from stationkeeper.contracts.wire import ArmDelta
from stationkeeper.monitor.core.adoption import may_take_over
from stationkeeper.monitor.core.finding import Finding
from stationkeeper.monitor.core.incidents import CO_ONSET_PANES, Incident, IncidentChanges, merge
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.performance import APPROVAL, Fairness, OutcomePane, rates_of
from stationkeeper.monitor.core.reference import Counts, Reference
from stationkeeper.monitor.core.watch import Watch, WatchSettings, WatchState
from stationkeeper.monitor.judge.pending import Closed, WatchKey
from stationkeeper.monitor.judge.plugin_watch import PluginWatch, PluginWatchState
from stationkeeper.monitor.judge.segment_reference import FirstPanes, SegmentAdoptionState, segment_reference
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import DAY_MS, ModelSettings
from stationkeeper.monitor.tally import planned_segments

Merged = Mapping[WatchKey, tuple[int, Counts]]
"""Rows and counts of a closed pane by watch, its sources added up."""

# A week: a version that is no champion may come back within days (a rollback, a weekly batch) and then keeps its
# detectors and incidents. Half of it would lose those of a weekly job; twice would hold the memory of twice as many.
FORGET_MS = 7 * DAY_MS


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a closed pane did to one watch: its outcome, and the warnings of plug-ins beside it."""

    key: WatchKey
    watch: Watch
    outcome: IncidentChanges
    plugin_verdicts: tuple[Verdict, ...] = ()


class WatchesState(State, frozen=True):
    """What watches keep beside their own states, which are stored one by one.

    Rows begin with version, digest and segment: ``seen`` when each last had rows (ms), ``plugins`` the state of its
    plug-ins, ``adopted`` the counts of a segment's own reference. ``rows`` and ``first_seen`` (ms) are by version.
    """

    seen: list[tuple[str, str, str, int]]
    rows: dict[str, int]
    first_seen: dict[str, int]
    plugins: list[tuple[str, str, str, PluginWatchState]]
    adoptions: list[SegmentAdoptionState]
    adopted: list[tuple[str, str, str, Counts]]


def approvals(arms: Iterable[ArmDelta]) -> dict[str, dict[str, Counts]]:
    """Return by version and segment int64[3, 2]: decisions that were positive, of those that were made."""
    found: dict[str, dict[str, Counts]] = {}
    for arm in arms:
        mine = found.setdefault(arm.version, {}).setdefault(arm.segment, rates_of(np.zeros(4, np.int64)))
        mine[APPROVAL] += arm.positives, arm.rows - arm.errors
    return found


def comparing(watches: Mapping[WatchKey, Watch]) -> dict[str, Fairness]:
    """Return what compares segments, by version."""
    return {key.version: watch.fairness for key, watch in watches.items() if watch.fairness is not None}


class SegmentRates:
    """Gives the watches that compare segments their counts: approvals as panes close, the other rates as labels mature.

    Segments are compared on the panes and cohorts in which they come: what the others did at other times is left out.
    Of a cohort all traffic comes before its segments, and nothing is kept from one cohort to the next.
    """

    def __init__(self) -> None:
        self._whole = rates_of(np.zeros(4, np.int64))

    def decided(self, watches: Mapping[str, Fairness], arms: Iterable[ArmDelta], start: int) -> None:
        """Take the arms of a closed pane that began at ``start``; ``watches`` are what compares, by version."""
        for version, rates in approvals(arms).items() if watches else ():
            if version in watches:
                watches[version].add(rates, start)

    def labelled(self, watches: Mapping[str, Fairness], version: str, segment: str, labels: OutcomePane) -> None:
        """Take the labels of a mature cohort; those that come for some scores rather than others say nothing here."""
        if version not in watches or labels.selective:
            return
        rates = rates_of(labels.confusion)
        if not segment:
            self._whole = rates
        else:
            watches[version].add({"": self._whole, segment: rates}, labels.start)


class Watches(Mapping[WatchKey, Watch]):
    """One watch for each (version, reference digest, segment) with rows and a reference, in this order.

    ``rows`` and ``first_seen`` are of all traffic by version; ``changed`` names the watches to be written.
    A watch beyond ``limits.segments`` + ``limits.versions`` is refused and counted: nothing else suffers.
    """

    def __init__(self, settings: ModelSettings, references: References) -> None:
        self._settings, self._references = settings, references
        self._by_key: dict[WatchKey, Watch] = {}
        self._plugins: dict[WatchKey, PluginWatch] = {}
        self._growing: dict[WatchKey, FirstPanes] = {}
        self._segment_counts: dict[WatchKey, Counts] = {}
        self.seen: dict[WatchKey, int] = {}
        self.rows, self.first_seen = dict[str, int](), dict[str, int]()
        self.changed: set[WatchKey] = set()
        self.refused, self._rates = 0, SegmentRates()

    def __getitem__(self, key: WatchKey) -> Watch:
        return self._by_key[key]

    def __iter__(self) -> Iterator[WatchKey]:
        """Yield the keys in the order in which watches are stepped, so that a replay decides alike."""
        return iter(sorted(self._by_key))

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def unable(self) -> dict[str, str]:
        """The configured plug-ins that can watch no subject of some version, with why."""
        return {name: why for plugins in self._plugins.values() for name, why in plugins.unable.items()}

    def of(self, version: str | None) -> list[Watch]:
        """Return the watches of a version, in order."""
        return [watch for key, watch in self.items() if key.version == version]

    def meet(self, key: WatchKey, start: int, rows: int, counts: Counts, champion: str | None) -> None:
        """Note that a pane has rows of ``key``, and begin its watch once its reference is known.

        A segment's own reference is what its first panes looked like, so its watch begins when there are enough.
        A watch whose reference does not know the dependence of its rows takes it over from another version's.
        """
        # All traffic alone: segments repeat its rows.
        if not key.segment:
            self.rows[key.version] = self.rows.get(key.version, 0) + rows
            self.first_seen.setdefault(key.version, start)
        self.seen[key] = start
        reference = self._references.by_digest(key.digest, self._settings.name, key.version)
        # A pane of notes without rows (late events, unseen fields) begins no watch.
        if key in self._by_key or reference is None or not rows:
            return
        if len(self._by_key) >= self._settings.limits.segments + self._settings.limits.versions:
            self.refused += 1
            return
        if key.segment:
            growing = self._growing.setdefault(key, FirstPanes.of(reference))
            if not growing.add(start, rows, counts):
                return
            self._segment_counts[key] = self._growing.pop(key).counts
        watch = self._begin(key, reference)
        if watch.adopting and (known := self._knows_dependence(key, champion)) is not None:
            watch.take_over(known)
        self._teach_traffic(key, watch)

    def step(
        self,
        closed: Closed,
        merged: Merged,
        champion: str | None,
        late: Finding | None = None,
    ) -> Iterator[Stepped]:
        """Give every watch its part of a closed pane, and yield the outcomes.

        ``late`` is that the model's labels are late: the champion's watch of all traffic says so.
        """
        start, length, new = closed.start, self._settings.pane, closed.new
        self._rates.decided(comparing(self), closed.arms, start)
        traffic: dict[str, int] = {}
        for key, (rows, _) in merged.items():
            traffic[key.segment] = traffic.get(key.segment, 0) + rows
        for key, watch in self.items():
            rows, counts = merged.get(key, (0, watch.layout.zeros()))
            pane = Pane(start, length, rows, counts, traffic=traffic.get(key.segment, 0), new=new.get(key, {}))
            outcome = watch.step(pane, late if key.version == champion and not key.segment else None)
            self.changed.add(key)
            plugins = self._plugins.get(key) if rows and key.version == champion else None
            yield Stepped(key, watch, outcome, tuple(plugins.step(pane)) if plugins is not None else ())

    def learn(self, version: str, segment: str, pane: OutcomePane) -> Iterator[Stepped]:
        """Give the labels of a mature cohort to the watches of its version and segment, and yield the outcomes."""
        self._rates.labelled(comparing(self), version, segment, pane)
        for key, watch in self.items():
            # By version and segment: labels know no digest.
            if (key.version, key.segment) == (version, segment):
                self.changed.add(key)
                yield Stepped(key, watch, watch.learn(pane))

    def same_onset(self, key: WatchKey, incident: Incident) -> Incident | None:
        """Return the open incident of another segment that began when this one did: one cause, one page."""
        slack = CO_ONSET_PANES * self._settings.pane
        others = (
            one for at, watch in self.items() if at != key and at.version == key.version for one in watch.incidents()
        )
        # Fairness is the cause of no drift: a segment's drift asks by itself.
        alike = (one for one in others if one.apart == incident.apart)
        return next((one for one in alike if len(merge([one, incident], slack)) == 1), None)

    def end(self, key: WatchKey) -> Watch | None:
        """Let a watch go and return it; what was stored of it goes too, or a restart would revive it."""
        self._plugins.pop(key, None)
        # A segment of that version that comes back shows anew what it looks like; kept, counts of every version that
        # ever served would be written with each pane.
        self._segment_counts.pop(key, None)
        self._growing.pop(key, None)
        self.changed.add(key)
        return self._by_key.pop(key, None)

    def forget(self, champion: str | None, now: int) -> None:
        """Let go of watches of other versions that had no rows for a week."""
        for key in [key for key, at in self.seen.items() if key.version != champion and now - at > FORGET_MS]:
            self.end(key)
            self.seen.pop(key)

    def _knows_dependence(self, key: WatchKey, champion: str | None) -> Reference | None:
        """The reference of the latest other watch of the segment that knows dependence, the champion's first."""
        others = {k: w.reference for k, w in self._by_key.items() if k != key and k.segment == key.segment}
        known = [k for k in others if may_take_over(others[k])]
        # The key last, so that equal ones are taken in one order.
        known.sort(key=lambda k: (k.version == champion, self.seen.get(k, 0), k))
        return others[known[-1]] if known else None

    def _begin(self, key: WatchKey, reference: Reference) -> Watch:
        settings, name = self._settings, self._settings.name
        if key in self._segment_counts:
            reference = segment_reference(reference, np.atleast_2d(self._segment_counts[key]))
        # Borrowed from the champion or another model: verdicts must name the version that is watched.
        if (reference.model, reference.version) != (name, key.version):
            reference = replace(reference, model=name, version=key.version)
        watch = self._by_key[key] = Watch(
            reference,
            key.segment,
            WatchSettings(
                budget=settings.budget,
                warnings_a_page=settings.warnings_a_page,
                segments=planned_segments(settings, reference, key.segment),
                window=settings.window,
                adoption=settings.adoption or None,
                ignore=settings.quality.ignore,
                tolerance=settings.quality.tolerance,
                stale_after=settings.quality.stale_after,
                learn_traffic=settings.quality.learn_traffic or None,
                error_tolerance=settings.error_tolerance,
                timezone=settings.timezone,
                holidays=day_numbers(settings.holidays),
                follow_seasons=settings.follow_seasons,
                fairness=None if settings.fairness is None else settings.fairness.rules,
            ),
        )
        if settings.detectors and not key.segment:
            self._plugins[key] = PluginWatch(settings.detectors, reference, watch.identity)
        return watch

    def _teach_traffic(self, key: WatchKey, watch: Watch) -> None:
        """Let a new version's watch know what the others have learned of traffic: each sees that of all versions.

        Without it no outage and no drop would be seen for two weeks after each promotion.
        """
        others = [(k, w.quality.arrivals) for k, w in self._by_key.items() if k != key and k.segment == key.segment]
        # The one that has learned longest knows most; the key last, so that equal ones are taken in one order.
        learned = [(a.learned.begin, k, a) for k, a in others if a.learned is not None and a.learned.begin is not None]
        if learned:
            watch.quality.arrivals.learn_from(min(learned, key=lambda one: one[:2])[2])

    def state(self) -> WatchesState:
        """Return what ``restore`` needs, but for the watches themselves, which are stored one by one."""
        return WatchesState(
            seen=[(*key, at) for key, at in self.seen.items()],
            rows=self.rows,
            first_seen=self.first_seen,
            plugins=[(*key, plugins.state()) for key, plugins in self._plugins.items()],
            adoptions=[growing.state(*key) for key, growing in self._growing.items()],
            adopted=[(*key, counts) for key, counts in self._segment_counts.items()],
        )

    def restore(self, state: WatchesState, watches: Mapping[WatchKey, WatchState]) -> None:
        """Go on from ``state`` and the watches' own; a watch whose reference is not known any more starts anew."""
        self.seen = {WatchKey(*key): at for *key, at in state.seen}
        self.rows, self.first_seen = dict(state.rows), dict(state.first_seen)
        self._segment_counts = {WatchKey(*key): counts for *key, counts in state.adopted}
        for one in state.adoptions:
            self._growing[WatchKey(one.version, one.digest, one.segment)] = FirstPanes.restored(one)
        for key, saved in watches.items():
            reference = self._references.by_digest(key.digest, self._settings.name, key.version)
            if reference is not None:
                self._begin(key, reference).restore(saved)
        for version, digest, segment, kept in state.plugins:
            plugins = self._plugins.get(WatchKey(version, digest, segment))
            if plugins is not None:
                plugins.restore(kept)
