"""What the controller remembers of one model, kept inside the rollout record so that one record restores it."""

from typing import ClassVar

from stationkeeper.contracts.messages import Candidate, Message, Rollout, Shadow
from stationkeeper.deploy.core.minutes import Minute
from stationkeeper.deploy.core.reasons import Uncounted

# Candidates that were answered, against asking twice: a model has a few a month.
HANDLED_KEPT = 50


class Pool(Message):
    """Labelled rows of one guardrail and step that wait until both arms have enough of them."""

    schema_name: ClassVar[str] = "pool"
    rows_a: int = 0
    loss_a: float = 0.0
    rows_b: int = 0
    loss_b: float = 0.0


class Groups(Message):
    """Counts of champion (``a``) and canary (``b``) by entity group."""

    schema_name: ClassVar[str] = "groups"
    a: tuple[int, ...]
    b: tuple[int, ...]


class Allocation(Message):
    """By entity group, the canary's rows beyond its share of each minute, summed, and the variance expected of that.

    ``rows_b`` are all its rows in these minutes.
    """

    schema_name: ClassVar[str] = "allocation"
    rows_b: int
    residual: tuple[float, ...]
    variance: tuple[float, ...]


class Spread(Message):
    """Scatter of the canary's failures over time: blocks, their squares over the expected, the block that is open.

    ``failed_a`` and ``failed_b`` are failures of either arm, each weighed by the other arm's share of its minute.
    """

    schema_name: ClassVar[str] = "spread"
    failed_a: float = 0.0
    failed_b: float = 0.0
    squares: float = 0.0
    blocks: int = 0
    residual: float = 0.0
    variance: float = 0.0


class LastAnswer(Message):
    """The last answer to a query: what it says, its number, in words, when, and how many in a row failed.

    ``unmeasured`` is how many in a row, up to this one, told nothing. ``asks`` is what it answers
    (``QueryPolicy.asks``), ``closed`` how many minutes closed since; ``asker`` and ``turn`` say which question
    (``QueryAnswer``).
    """

    schema_name: ClassVar[str] = "last-answer"
    outcome: str = ""
    value: float | None = None
    said: str = ""
    failed: int = 0
    unmeasured: int = 0
    at: int = 0
    asks: str = ""
    closed: int = 0
    asker: str = ""
    turn: int = 0


class StepLog(Message):
    """One step of the ramp: its weight, when it was written, when traffic showed it, when it ended, its rows.

    ``uncounted`` are milliseconds that do not count towards it or show one arm alone, by ``reasons.Uncounted``;
    ``one_armed`` are those of one arm alone since ``settled``.
    """

    schema_name: ClassVar[str] = "step-log"
    weight_bp: int
    started: int
    settled: int | None = None
    ended: int | None = None
    rows_a: int = 0
    rows_b: int = 0
    evidence: dict[str, float] = {}
    uncounted: dict[str, int] = {}
    one_armed: int = 0


class Taken(Message):
    """How far a partition of an input was taken in: the next offset, the latest write time before it (ms).

    A record is known where both say so: of a topic that was created anew the offsets begin again, later.
    """

    schema_name: ClassVar[str] = "taken"
    offset: int
    written: int

    def holds(self, offset: int, written: int) -> bool:
        """Return whether the record at ``offset`` was taken in before."""
        return offset < self.offset and written <= self.written

    def then(self, later: "Taken") -> "Taken":
        """Return how far it is after another process read up to ``later``.

        That one may have begun again before here, over the same records; or over those of a topic that is new.
        """
        if later.offset < self.offset:
            return later if later.written > self.written else self
        # Several write to one topic, and their clocks differ: the latest time is not always the last one's.
        return Taken(offset=later.offset, written=max(self.written, later.written))


class Controller(Message):
    """The controller's memory of a rollout; times are milliseconds of the declared clock.

    ``before`` is the share that traffic showed ahead of the present weight and ``changeover`` the running log
    likelihood that it has changed. ``wealth`` holds each e-process, ``sums`` what was seen per guardrail for people.
    ``previous`` is the champion before the last promotion, ``dropped`` what the last rollback took away, ``after`` the
    candidate that waits for this rollout. ``groups`` and ``spread`` say how far rows fail together, ``latencies`` is
    what the champion's were so far, ``split`` how the canary's rows lie in the groups. ``gate`` is what the
    gate said of the candidate, ``proven`` that a target serves the very model that the gate scored. ``holdback_bp``
    is the share that ``previous`` keeps while on probation. ``grouped`` counts the minutes in ``groups``,
    ``timed`` those in which latency was compared. ``asked`` are the last answers to the policy's queries. ``shadow`` is
    what the candidate would have answered before it answers anyone, ``busiest`` the rows a minute of the busiest
    half hour logged before (0: not known). ``taken`` is how far each input had been read when the record was written.
    """

    schema_name: ClassVar[str] = "controller"
    clock: int = 0
    started: int = 0
    steps: tuple[StepLog, ...] = ()
    before: float = 0.0
    changeover: float = 0.0
    labels_b: int = 0
    wealth: dict[str, tuple[float, ...]] = {}
    sums: dict[str, Pool] = {}
    pools: dict[str, Pool] = {}
    open: Minute | None = None
    incidents: tuple[str, ...] = ()
    held: str = ""
    previous: str | None = None
    dropped: str | None = None
    promoted: int = 0
    probation_rows: int = 0
    after: Candidate | None = None
    handled: tuple[str, ...] = ()
    promotions: int = 0
    rollbacks: int = 0
    gate: str = ""
    proven: bool = False
    groups: dict[str, Groups] = {}
    split: Allocation | None = None
    spread: dict[str, Spread] = {}
    latencies: tuple[int, ...] = ()
    holdback_bp: int = 0
    grouped: int = 0
    shadow: Shadow | None = None
    asked: dict[str, LastAnswer] = {}
    timed: int = 0
    busiest: float = 0.0
    taken: dict[str, Taken] = {}

    def step_at(self, start: int) -> int | None:
        """Return the index of the step whose settled span holds a prediction minute, None between steps."""
        for index, step in enumerate(self.steps):
            if step.settled is not None and step.settled <= start and (step.ended is None or start < step.ended):
                return index
        return None

    def with_step(self, **changes: object) -> "Controller":
        """Return the memory with its last step changed."""
        last = self.steps[-1].model_copy(update=changes)
        return self.model_copy(update={"steps": (*self.steps[:-1], last)})

    def without(self, why: Uncounted, span: int, **changes: object) -> "Controller":
        """Return the memory with ``span`` milliseconds noted apart in its last step, and the step changed."""
        before = self.steps[-1].uncounted
        uncounted = {**before, why.value: before.get(why, 0) + span} if span else before
        return self.with_step(uncounted=uncounted, **changes)

    def restarted(self, settled: int | None) -> "Controller":
        """Return the memory with its last step begun again: its minutes and rows so far do not count."""
        step = self.steps[-1]
        # Minutes of one arm alone are noted already: summed again, the step would have more minutes than passed.
        span = self.clock - step.settled - step.one_armed if step.settled is not None else 0
        return self.without(Uncounted.RESTARTED, span, settled=settled, rows_a=0, rows_b=0, one_armed=0)

    def handling(self, candidate: str) -> "Controller":
        """Return the memory with a candidate noted as handled, so that a replay of it does nothing."""
        return self.model_copy(update={"handled": (*self.handled, candidate)[-HANDLED_KEPT:]})

    def for_next(self) -> "Controller":
        """Return what outlives a rollout: counters, incidents, handled and waiting candidates, the open minute."""
        kept = {"clock", "open", "incidents", "handled", "after", "promotions", "rollbacks", "previous", "dropped"}
        return Controller.model_validate({name: getattr(self, name) for name in kept})


def memory(rollout: Rollout) -> Controller:
    """Return the controller's memory in a rollout record; empty for a record that someone else wrote.

    Fields of another version of us are left out, as in any message: a rollout goes on through an upgrade and back.
    """
    return Controller.model_validate(rollout.controller, extra="ignore")


def remember(rollout: Rollout, controller: Controller) -> Rollout:
    """Return the record with this memory in it."""
    return rollout.model_copy(update={"controller": controller.model_dump(mode="json", exclude_defaults=True)})
