"""Retrainings under test: from the request of an incident to what its version did for the subject that asked."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from stationkeeper.contracts.messages import CureOutcome, RetrainRequest, Rollout, RolloutPhase, Verdict
from stationkeeper.contracts.model_status import CureStatus
from stationkeeper.contracts.state import State, replaced
from stationkeeper.contracts.times import to_ms
from stationkeeper.monitor.core.incidents import (
    PATIENCE_MS,
    Before,
    Cure,
    CureRules,
    Harm,
    Trial,
    after_labels,
    after_pane,
    before_change,
    cure_verdict,
    cure_words,
    judge_cure,
    overtaken,
)
from stationkeeper.monitor.core.performance import OutcomePane, judged
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.references import References
from stationkeeper.monitor.settings import ModelSettings

# Requests that wait for what becomes of them: one retraining of a model goes on at a time, and of those that gave no
# version nobody tells the judge. More would keep what is lost; one alone would lose a cure that is still awaited when
# the next incident asks.
KEPT_TRIALS = 4

# Outcomes kept for the pages of incidents: a model has a few a month, so about a year of them, some 500 bytes each.
KEPT_CURES = 40


class CuresState(State, frozen=True):
    """What `Cures` keeps: what is under test, the latest outcomes (oldest first), and totals by outcome."""

    trials: tuple[Trial, ...] = ()
    known: tuple[Cure, ...] = ()
    counts: dict[str, int] = {}


class Cures:
    """One model's: which retrainings are under test, and what became of the others. Decisions: `core.incidents.cure`.

    State: the trials, the latest outcomes, and the totals. A function of the panes log and of the rollouts.
    """

    def __init__(self, settings: ModelSettings, references: References) -> None:
        self._name, self._references = settings.name, references
        # Labels are judged at their maturity, so that those of the first days are in a week after probation too.
        self._rules = CureRules(settings.harm.tolerance, PATIENCE_MS + settings.label_maturity)
        self.state = CuresState()

    def of(self, incident: str) -> CureStatus | None:
        """Return what became of the retraining of an incident as people see it, None where there is none so far."""
        found = next((one for one in reversed(self.state.known) if one.incident == incident), None)
        if found is None:
            return None
        words = f"{cure_words(found.outcome)}: {found.reason}"
        return {"outcome": found.outcome.value, "words": words, "time": found.time, "numbers": dict(found.numbers)}

    def asked(self, requests: Iterable[RetrainRequest], watches: Sequence[Watch]) -> None:
        """Put published requests under test; ``watches`` are the champion's, whose incidents ask.

        Of what age and rows asked for the forecast is tested; what the calendar asked for promised nothing.
        """
        for request in requests:
            others = tuple(one for one in self.state.trials if one.message.id != request.id)
            if request.cure is None and not request.withdrawn:
                others = (*others, *_trials(request, watches))
            while len(others) > KEPT_TRIALS:
                # The oldest without a version: it most likely gives none, and one that serves is awaited still.
                gone = next((one for one in others[:-1] if not one.new), others[0])
                others = tuple(one for one in others if one is not gone)
            self.state = replaced(self.state, trials=others)

    def learn(self, version: str, segment: str, labels: OutcomePane) -> None:
        """Take labels of a mature cohort."""
        if self.state.trials:
            trials = tuple(
                after_labels(one, labels) if (one.new, one.segment) == (version, segment) else one
                for one in self.state.trials
            )
            self.state = replaced(self.state, trials=trials)

    def step(
        self,
        now: int,
        rows: Mapping[tuple[str, str], int],
        watches: Callable[[str | None], Sequence[Watch]],
        harm: Callable[[str], Harm | None],
    ) -> tuple[list[Verdict], list[RetrainRequest]]:
        """Take a closed pane: ``rows`` of it by version and segment, the ``watches`` of a version, incidents' harm.

        Returns the verdicts of what can be told by now, and the requests again with it, for whoever retrains.
        """
        verdicts, requests = list[Verdict](), list[RetrainRequest]()
        for trial in self.state.trials:
            moved = self._follow(trial, now, harm)
            if moved is None:
                self._put(trial, None)
                if (cure := overtaken(trial, self._champion(now), now)) is not None:
                    # Its probation ended before another one began, also where no record of that is left: what it has
                    # shown by now counts.
                    confirmed = replaced(trial, confirmed=trial.confirmed or now)
                    self._tell(trial, judge_cure(confirmed, self._rules, now) or cure, verdicts, requests)
                continue
            if moved.new:
                mine = [one for one in watches(moved.new) if one.identity.segment == moved.segment]
                open_incidents = [incident for watch in mine for incident in watch.incidents()]
                adopted = bool(mine) and not any(watch.adopting for watch in mine)
                moved = after_pane(moved, rows.get((moved.new, moved.segment), 0), open_incidents, judged=adopted)
            cure = judge_cure(moved, self._rules, now)
            self._put(trial, moved if cure is None else None)
            if cure is not None:
                self._tell(moved, cure, verdicts, requests)
        return verdicts, requests

    def _tell(self, trial: Trial, cure: Cure, verdicts: list[Verdict], requests: list[RetrainRequest]) -> None:
        reference = self._references.of(self._name, trial.new)
        verdicts.append(cure_verdict(trial, cure, "" if reference is None else reference.digest))
        again = {"cure": cure.outcome, "cure_reason": cure.reason}
        requests.append(trial.message.model_copy(update=again))
        self._remember(cure)

    def _follow(self, trial: Trial, now: int, harm: Callable[[str], Harm | None]) -> Trial | None:
        """The trial with where its version is in production; None once that was taken back or replaced."""
        known = self._references.rollouts(self._name)
        rollout = _standing(known, now)
        message = trial.message
        if rollout is None and known:
            # What is told of began after this pane, which was missed.
            return trial
        if rollout is None or rollout.request != message.id:
            # A rollout of another request took its place: after probation this version serves on until it is replaced.
            if not trial.new:
                return trial
            serves = self._champion(now) == trial.new
            return replaced(trial, confirmed=trial.confirmed or now) if serves else None
        if rollout.phase is RolloutPhase.STEADY and rollout.champion == message.version:
            return None
        if rollout.champion != message.version and not trial.new:
            cost = harm(message.incident)
            # What was not shown to be lost is no room for the new version to lose.
            lost = cost.lost if cost is not None and cost.low > 0 else trial.lost
            trial = replaced(trial, new=rollout.champion, since=now, lost=lost)
        if trial.new and rollout.phase is RolloutPhase.STEADY and not trial.confirmed:
            trial = replaced(trial, confirmed=now)
        return trial

    def _champion(self, now: int) -> str | None:
        rollout = _standing(self._references.rollouts(self._name), now)
        return self._references.champion(self._name) if rollout is None else rollout.champion

    def _put(self, before: Trial, after: Trial | None) -> None:
        trials = tuple(after if one is before else one for one in self.state.trials)
        self.state = replaced(self.state, trials=tuple(one for one in trials if one is not None))

    def _remember(self, cure: Cure) -> None:
        counts = {**self.state.counts, cure.outcome.value: self.state.counts.get(cure.outcome.value, 0) + 1}
        self.state = replaced(self.state, known=(*self.state.known, cure)[-KEPT_CURES:], counts=counts)

    def tests(self, request: str | None) -> bool:
        """Return whether what a request led to is still under test."""
        return any(one.message.id == request for one in self.state.trials)

    def tried(self) -> tuple[int, int]:
        """Return how many retrainings cured what they were asked for, and how many did not."""
        counts = self.state.counts
        return counts.get(CureOutcome.CURED.value, 0), counts.get(CureOutcome.NOT_CURED.value, 0)


def _standing(known: Sequence[Rollout], now: int) -> Rollout | None:
    """The record that counted at ``now``, of those oldest first; None where all came later.

    A judge that was away has read them to their end before the panes it missed, and must tell what it had told then.
    """
    # Further ahead than that it was written on another clock (a stream replayed years later): what is read counts then.
    counted = [one for one in known if not now < to_ms(one.time) <= now + PATIENCE_MS]
    return counted[-1] if counted else None


def _trials(request: RetrainRequest, watches: Sequence[Watch]) -> Iterable[Trial]:
    """The trial of a request, from the watch whose incident asked, or from the forecast that age made."""
    told = request.evidence
    for watch in watches:
        # A build before forecasts were told asked without one.
        # Nor has a follow-up one where its version had no wrong answer yet.
        promised = request.cause in {Cause.AGEING, Cause.MORE_ROWS} and "forecast" in told
        if promised and not watch.identity.segment:
            known = before_change(judged(watch.reference))
            late = Before(float(told["late"]), known.phi)
            yield Trial(request.encode().decode(), (), "", late, lost=float(told["forecast"]))
        for incident in watch.incidents():
            if incident.id == request.incident:
                # The leader first: it names the verdict.
                keys = sorted((one.key for one in incident.members), key=lambda key: (key != incident.leader, key))
                before = before_change(judged(watch.reference))
                yield Trial(request.encode().decode(), tuple(keys), incident.segment, before)
