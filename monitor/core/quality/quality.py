"""All data-quality checks of one watch: rates that must not rise, rules, arrivals, and drift that is a fault."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from stationkeeper.contracts.messages import VerdictKind
from stationkeeper.contracts.state import State
from stationkeeper.contracts.times import UTC_ZONE
from stationkeeper.monitor.core.budget import log_thresholds
from stationkeeper.monitor.core.charts import name_cause
from stationkeeper.monitor.core.detect import EvidenceState
from stationkeeper.monitor.core.finding import Finding
from stationkeeper.monitor.core.panes import Pane
from stationkeeper.monitor.core.quality.arrivals import Arrivals
from stationkeeper.monitor.core.quality.learned_traffic import LearnedTraffic, LearnedTrafficState
from stationkeeper.monitor.core.quality.rates import QualityRates
from stationkeeper.monitor.core.quality.rules import Rules, RulesState, far_outside
from stationkeeper.monitor.core.quality.spells import SpellsState
from stationkeeper.monitor.core.quality.traces import TRACE_SHARE, Traces, TracesState
from stationkeeper.monitor.core.quality.unit_change import unit_change
from stationkeeper.monitor.core.quality.volume import VolumeDetector
from stationkeeper.monitor.core.reasons import Cause, Check
from stationkeeper.monitor.core.reference import QUALITY, Counts, NumericCells, Reference


class QualityState(State, frozen=True):
    """What the checks keep; ``came`` are events and expected events of late, ``lesson`` the learned traffic."""

    rates: EvidenceState
    rules: RulesState
    volume: EvidenceState | None
    silent_since: int | None
    silent_nats: float
    came: tuple[float, float]
    lesson: tuple[int | None, LearnedTrafficState] | None = None
    traces: TracesState | None = None
    # Of drops and of surges; builds before odd spells were set beside each other lack them.
    spells: tuple[SpellsState, SpellsState] | None = None


class Quality:
    """All data-quality checks of one watch; ``alphas`` are its shares "quality" and "volume" of the budget."""

    def __init__(
        self,
        reference: Reference,
        alphas: Mapping[str, float],
        segments: int = 1,
        ignore: Sequence[str] = (),
        tolerance: float | None = None,
        stale_after: int | None = None,
        learn_traffic: int | None = None,
        *,
        timezone: str = UTC_ZONE,
        whole: bool = True,
    ) -> None:
        """``tolerance`` replaces how far a rate may rise, ``stale_after`` (clock units) the learned silence.

        Traffic of a training set says nothing of production, so it teaches neither volume nor freshness;
        ``learn_traffic`` is then how long live panes teach them by the hours of ``timezone``, None never.
        Silence pages only where ``whole``: of all traffic.
        """
        self.reference, self.layout = reference, reference.layout
        self._ignored = frozenset(ignore)
        self.rules = Rules(reference)
        self.rates = QualityRates(reference, alphas["quality"] * (1 - TRACE_SHARE), segments, tolerance)
        key = b"\0".join(part.encode() for part in (reference.model, reference.version, "traces"))
        self.traces = Traces(reference, alphas["quality"] * TRACE_SHARE, key)
        self.arrivals = Arrivals(
            reference,
            float(log_thresholds(alphas["volume"], [1.0])[0]) if "volume" in alphas else None,
            float(log_thresholds(alphas["quality"], [1.0])[0]),
            stale_after=stale_after,
            learn_traffic=learn_traffic,
            timezone=timezone,
            whole=whole,
        )

    @property
    def volume(self) -> VolumeDetector | None:
        """The detector of volume, None while no traffic is known."""
        return self.arrivals.volume

    @property
    def learned_traffic(self) -> LearnedTraffic | None:
        """What live panes teach of traffic, None where the reference teaches it or nothing shall."""
        return self.arrivals.learned

    @property
    def volume_usual(self) -> bool:
        """Whether the last half hour or so of panes brought about what it should."""
        return self.arrivals.usual

    def margin(self, subject: str, check: Check) -> float:
        """Return how far a check's evidence lies above its page threshold, in nats; -inf for a rule without any."""
        return self.arrivals.margin() if check is Check.VOLUME else self.rates.margin(subject, check)

    def step(self, pane: Pane, elapsed: float, *, holiday: bool = False) -> list[Finding]:
        """Take the next closed pane, also one without rows; of a ``holiday`` what is broken alone is judged."""
        found = self.arrivals.step(pane, elapsed, holiday=holiday)
        if not pane.rows:
            return found
        found += [*self.rules.step(pane)]
        # What pages says a rate's rise before the trace of it does.
        rates = self.rates.step(pane, elapsed, holiday=holiday)
        said = {finding.key for finding in rates}
        found += [*rates, *(one for one in self.traces.step(pane, elapsed) if one.key not in said)]
        if holiday:
            found = [finding for finding in found if finding.kind is VerdictKind.DATA_QUALITY]
        return [finding for finding in found if str(finding.check) not in self._ignored]

    def reinterpret(self, finding: Finding, counts: Counts) -> Finding | None:
        """Return drift as the broken data that explains it, if it does: missing values, or a change of unit.

        ``counts`` int64[width] are the panes since the finding's onset.
        """
        # A pair whose features are broken moves with them: they are what is said to be broken.
        if finding.parts:
            return None
        if finding.subject not in self.layout or finding.check is not None:
            return None
        place, subject = self.layout[finding.subject], self.reference.by_name[finding.subject]
        cells, quality = counts[place.histogram], counts[place.quality : place.quality + len(QUALITY)]
        named = name_cause(subject, cells, quality)
        check: Check | None = None
        reason, effect, evidence = named.reason, None, named.evidence
        if named.cause is Cause.MISSING and evidence["missing_now"] > evidence["missing_before"]:
            # The first four counters are the reasons why a value is missing; the most frequent one is named.
            check = Check(QUALITY[int(np.argmax(quality[:4]))])
            effect = evidence["missing_now"] - evidence["missing_before"]
        elif isinstance(subject.cells, NumericCells):
            unit = unit_change(subject, cells, counts[place.octaves])
            if unit is not None:
                check, reason = Check.UNIT, f"{subject.name}: values are {unit.name} of what they were"
                evidence = {**evidence, "factor": unit.factor, "left": unit.left}
                effect = unit.moved
            elif side := far_outside(subject, cells, counts[place.quality : place.last]):
                check, reason = Check.OUT_OF_RANGE, f"{subject.name}: all values lie far {side} the reference's range"
                effect = 1.0
        if check is None or str(check) in self._ignored:
            return None
        return replace(
            finding,
            kind=VerdictKind.DATA_QUALITY,
            cause=Cause.QUALITY,
            reason=reason,
            check=check,
            effect=effect,
            evidence=dict(evidence),
        )

    def state(self) -> QualityState:
        """Return what ``restore`` needs."""
        arrivals = self.arrivals
        return QualityState(
            rates=self.rates.state(),
            rules=self.rules.state(),
            volume=arrivals.volume.state() if arrivals.volume else None,
            silent_since=arrivals.silent_since,
            silent_nats=arrivals.silent_nats,
            came=(arrivals.came, arrivals.expected),
            lesson=arrivals.learned_state(),
            traces=self.traces.state(),
            spells=arrivals.spells(),
        )

    def restore(self, state: QualityState) -> None:
        """Take over the checks whose ``state`` this was."""
        self.rates.restore(state.rates)
        self.rules.restore(state.rules)
        if state.traces is not None:
            self.traces.restore(state.traces)
        self.arrivals.restore(state.lesson, state.volume)
        if state.spells is not None:
            self.arrivals.restore_spells(state.spells)
        self.arrivals.silent_since, self.arrivals.silent_nats = state.silent_since, state.silent_nats
        self.arrivals.came, self.arrivals.expected = state.came
