"""A replay's verdicts as ``page_on: harm`` with ``requests.when: harm`` lets them out, by the rules of the judge."""

from collections.abc import Iterator

from stationkeeper.backtesting.replay import Replay
from stationkeeper.contracts.messages import Level, Verdict
from stationkeeper.contracts.times import to_datetime
from stationkeeper.monitor.core.incidents import (
    NEW_VALUES,
    NOVELTY,
    RETRY_PANES,
    Harm,
    HarmRules,
    Incident,
    does_harm,
    harm_by_labels,
    harm_by_scores,
    harm_words,
    void_share,
)
from stationkeeper.monitor.core.performance import calibrated, every_measure, judged, refuted
from stationkeeper.monitor.core.reference import OutcomeSums


class Escalated:
    """One replay: with ``harm`` a page of drift alone warns until it does some; ``pane`` is in ms.

    `monitor.judge.escalation` does it for a daemon, with rollouts and segments; a replay has one version.
    """

    def __init__(self, replay: Replay, pane: int, *, harm: bool) -> None:
        self._replay, self._pane, self._harm, self._rules = replay, pane, harm, HarmRules()
        self._waiting: dict[str, Verdict] = {}
        self._late: list[tuple[Verdict, Incident]] = []

    def run(self) -> Iterator[tuple[Verdict, Incident | None]]:
        """Yield each verdict at its level, and its incident where that is open."""
        for verdict, watch in self._replay.run(self._again):
            yield from self._told()
            incident = next((one for one in watch.incidents() if one.id == verdict.incident), None)
            yield self._opening(verdict, incident), incident
        yield from self._told()

    def _told(self) -> Iterator[tuple[Verdict, Incident]]:
        late, self._late = self._late, []
        yield from late

    def _opening(self, verdict: Verdict, incident: Incident | None) -> Verdict:
        if not self._harm or verdict.level is not Level.PAGE or incident is None or incident.kind not in NOVELTY:
            return verdict
        harm = self._weigh(incident)
        if does_harm(incident, harm, self._rules):
            return verdict.model_copy(update={"reason": f"{verdict.reason} ({harm_words(harm)})"})
        self._waiting[incident.id] = verdict
        reason = f"{verdict.reason} (no harm so far: {harm_words(harm)})"
        return verdict.model_copy(update={"level": Level.WARN, "reason": reason})

    def _again(self, done: int) -> None:
        """Weigh what waits anew once a pane is over, after which ``done`` rows are judged."""
        times = self._replay.table.times
        if not self._waiting or times is None:
            return
        now, found = int(times[done - 1]), {one.id: one for one in self._replay.watch.incidents()}
        for name in list(self._waiting):
            incident = found.get(name)
            if incident is None:
                del self._waiting[name]
                continue
            # What joins as errors or broken data pages at once, drift alone once it does harm.
            joined = not incident.kinds <= NOVELTY
            if not joined and (now - incident.opened) // self._pane % RETRY_PANES:
                continue
            harm = self._weigh(incident)
            if joined or does_harm(incident, harm, self._rules):
                verdict = self._waiting.pop(name)
                reason = f"{verdict.reason} (by now: {harm_words(harm)})"
                self._late.append((verdict.model_copy(update={"time": to_datetime(now), "reason": reason}), incident))

    def _weigh(self, incident: Incident) -> Harm:
        """What an incident of drift costs: `monitor.judge.labels.IncidentHarms`."""
        reference, watch, cohorts = self._replay.reference, self._replay.watch, self._replay.labels.cohorts
        labels, void, since = judged(reference), void_share(incident), incident.onset.time
        if labels is None or cohorts is None:
            return Harm("unknown", "the reference has no labels", void=1.0)
        charts = cohorts.charts
        if not cohorts.maturity.selective:
            now = every_measure(reference.task, charts.confusion("1", "", since), OutcomeSums.none())
            known = harm_by_labels(now, every_measure(reference.task, labels.confusion, labels.sums))
            if known is not None:
                return known
        stands = calibrated(watch.performance, labels)
        found = harm_by_scores(charts.scored("1", "", since), labels, reference.threshold, stands)
        if found is None:
            return Harm("unknown", "no prediction with a score has come since the onset", void=1.0)
        drifting = [(member.kind, one.id) for one in watch.incidents() for member in one.drifting]
        new = [one.id for one in watch.incidents() if one.cause in NEW_VALUES]
        why = refuted(found.void, drifting, new)
        return Harm("unknown", why, void=max(void, found.void)) if why else found
