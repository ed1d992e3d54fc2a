"""The rollouts that the controller holds: the last record of each model, its open minutes, what is to be written."""

from collections.abc import Callable, Collection, Mapping
from typing import Literal

from stationkeeper.contracts.messages import Candidate, Deployment, Rollout
from stationkeeper.contracts.times import to_datetime, to_ms
from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, PaneDelta
from stationkeeper.deploy.controller.origins import Lookup
from stationkeeper.deploy.core.admission import advance, note_proven
from stationkeeper.deploy.core.minutes import MinuteBook
from stationkeeper.deploy.core.moves import Phase, Transition, reseen, roll_back
from stationkeeper.deploy.core.policy import Policy
from stationkeeper.deploy.core.queries import UNASKED_MS, QueryAnswer, resumed
from stationkeeper.deploy.core.reasons import Reason, because
from stationkeeper.deploy.core.rollout import answered, close_minute, compared, tick
from stationkeeper.deploy.core.split import as_served
from stationkeeper.deploy.core.state import Taken, memory, remember
from stationkeeper.deploy.settings import RolloutSettings


class Rollouts:
    """Steps each model's rollout; ``dirty`` names the records that changed, ``audit`` is what was done since a flush.

    On the ``wall`` clock the longest duration also passes while no minute closes. ``origin`` tells who made a waiting
    candidate's version; until that is known it goes on waiting. Of ``refused`` models nothing is moved but by a
    person who takes it back: a candidate waits, and a weight is not renewed, so that routers take it away.
    """

    def __init__(
        self,
        models: Mapping[str, RolloutSettings],
        clock: Literal["wall", "stream"],
        origin: Callable[[Candidate], Lookup],
        labelled: Collection[str] = (),
        refused: Collection[str] = (),
    ) -> None:
        self.refused = frozenset(refused)
        self._settings = dict(models)
        self.policies: Mapping[str, Policy] = {
            model: settings.policy(labels_expected=model in labelled) for model, settings in models.items()
        }
        self._wall = clock == "wall"
        self._origin = origin
        self._now = self._told = 0
        self.records: dict[str, Rollout] = {}
        self._books: dict[str, MinuteBook] = {}
        self._clocks: dict[str, int] = {}
        self._before: dict[str, dict[str, Taken]] = {}
        self._taken: dict[str, Taken] = {}
        self.dirty: set[str] = set()
        self.audit: list[Deployment] = []

    def forget(self) -> None:
        """Forget everything that is not in the log."""
        for held in (self.records, self._books, self._clocks, self._before, self._taken, self.dirty, self.audit):
            held.clear()

    def resume(self, rollout: Rollout) -> None:
        """Go on from the last record of a model; raises ``ValidationError`` where its memory cannot be read."""
        state = memory(rollout)
        # A transaction that was given up is over in a moment; how long nobody asked before us we do not know.
        unasked = state.asked and not self._told
        self.records[rollout.model] = remember(rollout, resumed(state)) if unasked else rollout
        self._before[rollout.model] = state.taken
        if rollout.phase is not Phase.STEADY:
            self._books[rollout.model] = MinuteBook.resume(state.open)
            self._clocks[rollout.model] = state.clock

    def known(self, place: str, offset: int, written: int, model: str) -> bool:
        """Return whether the model's record, as we took over, holds what the input at ``place`` said at ``offset``."""
        taken = self._before.get(model, {}).get(place)
        return taken is not None and taken.holds(offset, written)

    def taken(self, place: str, next_offset: int, written: int) -> None:
        """Note that an input was read up to ``next_offset``; ``written`` is the latest write time of what came (ms)."""
        here = Taken(offset=next_offset, written=written)
        self._taken[place] = self._taken.get(place, here).then(here)

    def clock(self, model: str) -> int | None:
        """Return the model's time (ms): the end of its last closed minute, on the wall clock at least now."""
        closed = self._clocks.get(model)
        return max(closed or 0, self._now) or None if self._wall else closed

    def apply(self, model: str, transition: Transition) -> None:
        """Take over what a decision gave."""
        # By identity: a decision that changes nothing hands the same record back, and no record is written for it.
        if transition.rollout is not self.records.get(model):
            self.records[model] = transition.rollout
            self.dirty.add(model)
        self.audit.extend(transition.deployments)

    def advance(self, model: str, moved: Transition, clock: int) -> None:
        """Take over a transition and, if the rollout has ended, offer what waits; nothing without a policy."""
        waiting, policy = memory(moved.rollout).after, self.policies.get(model)
        if waiting is not None and policy is not None and moved.rollout.phase is Phase.STEADY:
            lookup = self._origin(waiting)
            if lookup.known:
                moved = advance(moved, policy, clock, lookup.origin)
        self.apply(model, moved)

    def minute(self, record: ArmDelta | OutcomeDelta | PaneDelta) -> None:
        """Add a record of history; a minute that it closes is analysed."""
        model = record.model
        closed = self._books.setdefault(model, MinuteBook()).add(record)
        rollout, policy = self.records.get(model), self.policies[model]
        # The open minute is kept in the record: with the offsets committed, a restart could not read its rows again.
        if rollout is not None and rollout.phase is not Phase.STEADY:
            self.dirty.add(model)
        if closed is None:
            return
        # Never backwards: the record that a restart goes on from may be ahead of the minute that closes next.
        clock = self._clocks[model] = max(closed.end, self._clocks.get(model, 0))
        if rollout is None:
            return
        moved = Transition(rollout)
        if rollout.phase is not Phase.STEADY:
            moved = close_minute(rollout, closed, policy)
        self.advance(model, moved, clock)

    def tick(self, now_ms: int) -> None:
        """Let wall time pass for every model."""
        if self._told and now_ms - self._told > UNASKED_MS:
            self.records = {name: remember(one, resumed(memory(one))) for name, one in self.records.items()}
        self._now = now_ms
        for model, rollout in list(self.records.items()):
            if self._wall and model in self.policies:
                self.advance(model, tick(rollout, self.policies[model], now_ms), now_ms)

    def committed(self) -> None:
        """Note that what was decided up to now is in the log, with the answers that it was decided by."""
        self._told = self._now

    def drop_unfit(self, model: str, why: str | None) -> None:
        """Roll back a canary that a target can never serve, instead of waiting for rows that cannot come."""
        rollout, policy = self.records[model], self.policies.get(model)
        if why is None or policy is None or rollout.phase not in {Phase.CANARY, Phase.HOLD}:
            return
        clock = memory(rollout).clock
        back = roll_back(rollout, because(Reason.NOT_LOADED, version=rollout.canary, error=why), clock)
        self.advance(model, back, clock)

    def prove(self, model: str, proven: Collection[str]) -> None:
        """Note that a target serves the canary as the very model that the gate scored."""
        canary = self.records[model].canary
        if canary is not None and canary in proven:
            self.apply(model, Transition(note_proven(self.records[model], canary)))

    def answer(self, model: str, arms: tuple[str, str], answers: Mapping[str, QueryAnswer]) -> None:
        """Take in answers to a model's queries; those about versions that are compared no more are left out."""
        rollout, policy = self.records.get(model), self.policies.get(model)
        if rollout is None or policy is None or compared(rollout) != arms:
            return
        self.advance(model, answered(rollout, policy, answers), self.clock(model) or memory(rollout).clock)

    def lease(self, model: str, now_ms: int) -> None:
        """Renew a weight's lease after a third of it; a weight whose lease lapsed has to be seen in traffic anew."""
        rollout, settings = self.records[model], self._settings.get(model)
        if settings is None or as_served(rollout).weight_bp == 0:
            return
        until = to_ms(rollout.lease_until) if rollout.lease_until else None
        # With two thirds left a missed flush or a restart of a few seconds does not let the lease lapse, which would
        # send the canary's entities back to the champion and forth again. A record that goes out anyway renews it for
        # nothing. One that is longer than any is from before the clock was set back: it would outlive us by that.
        left = 0 if until is None else until - now_ms
        if 2 * settings.lease // 3 < left <= settings.lease and model not in self.dirty:
            return
        # Routers have taken the canary away by themselves: its weight may not count as in force until rows show it
        # again.
        if until is not None and until < now_ms and rollout.canary:
            rollout = reseen(rollout, 0.0)
        lease = to_datetime(now_ms + settings.lease)
        self.records[model] = rollout.model_copy(update={"lease_until": lease})
        self.dirty.add(model)

    def written(self, model: str) -> Rollout:
        """Return the record of a model with its open minutes and what was read inside, as it goes to the log."""
        rollout = self.records[model]
        before = self._before.get(model, {})
        taken = before | {place: before.get(place, here).then(here) for place, here in self._taken.items()}
        state = memory(rollout).model_copy(update={"taken": taken})
        if rollout.phase is not Phase.STEADY and model in self._books:
            state = state.model_copy(update={"open": self._books[model].snapshot()})
        rollout = self.records[model] = remember(rollout, state)
        return rollout
