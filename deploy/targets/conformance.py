"""What every serving target must do, as a suite that a third party runs against its own: ``check_target(make)``."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from stationkeeper.contracts.messages import Rollout, RolloutPhase
from stationkeeper.contracts.plugins import NotConforming
from stationkeeper.deploy.targets.target import Observation, Target, abilities_of
from stationkeeper.streams.errors import Retryable

_MODEL = "conformance"
# How often a record is applied again while the target says that it may help: an update of a platform goes through a
# few states; one that is not there by then would never be.
_TRIES = 20
# The share of the default holdback, which platforms of whole per cents can give.
_HELD_BP = 200
# Three weights of a usual ramp; the suite asks that none is exceeded, and that zero is zero.
_STEPS_BP = (100, 2_500, 0)
# Longer than the suite takes on a slow platform: a lease that lapses under it would look like a broken promise.
_LEASE = timedelta(minutes=5)
# Beyond the epochs of the ramp before, and apart, so that one is older than the other.
_NEWER, _OLDER = 20, 10


def check_target(make: Callable[[], Target], settle: Callable[[Rollout], None] = lambda _: None) -> None:
    """Take a target through a ramp, a rollback, a restart, a promotion taken back, and a record of an older epoch.

    ``make`` returns a new object on the same platform each time. ``settle`` is called after each call of ``apply``,
    for platforms that read the log by themselves or need time; a ``Retryable`` is answered by the same call again.
    Raises ``NotConforming`` with a sentence for each promise of `Target` that is broken.
    """
    found = [*_name(make()), *_unknown(make()), *_ramp(make, settle), *_holdback(make, settle)]
    found += _older_epoch(make, settle)
    if found:
        raise NotConforming("; ".join(found))


def _rollout(epoch: int, weight_bp: int, champion: str = "1") -> Rollout:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    canary = "2" if weight_bp else None
    return Rollout(
        model=_MODEL,
        epoch=epoch,
        time=now,
        phase=RolloutPhase.CANARY if canary else RolloutPhase.STEADY,
        champion=champion,
        canary=canary,
        weight_bp=weight_bp,
        lease_until=datetime.now(UTC) + _LEASE if canary else None,
    )


def _name(target: Target) -> Iterator[str]:
    if not target.name:
        yield "name is not a text; reports are read by it"


def _unknown(target: Target) -> Iterator[str]:
    try:
        found = target.observe("no-such-model")
    except Retryable as error:
        yield f"observe of an unknown model raises ({error}); return None"
        return
    if found is not None and found.canary is not None:
        yield "observe of an unknown model tells of a canary; return None"


def _ramp(make: Callable[[], Target], settle: Callable[[Rollout], None]) -> Iterator[str]:
    for epoch, weight_bp in enumerate(_STEPS_BP, 1):
        record, target = _rollout(epoch, weight_bp), make()
        _apply(target, record, settle)
        first = target.observe(_MODEL)
        # The controller was killed and started again: the same record, through a new object.
        again = make()
        _apply(again, record, settle)
        second = again.observe(_MODEL)
        if first != second:
            yield f"applying epoch {epoch} twice gives {first}, then {second}; apply must be idempotent"
        yield from _as_recorded(second, record)


def _holdback(make: Callable[[], Target], settle: Callable[[Rollout], None]) -> Iterator[str]:
    """Promote, with the old champion held back, then take the promotion back: nobody has to load anything for it."""
    if not abilities_of(make()).holds_back:
        return
    canary = _rollout(len(_STEPS_BP) + 1, _STEPS_BP[1])
    held = canary.model_copy(
        update={"phase": RolloutPhase.PROBATION, "champion": "2", "canary": "1", "weight_bp": _HELD_BP}
    )
    back = _rollout(canary.epoch, 0)
    for record in (canary, held, back):
        target = make()
        _apply(target, record, settle)
        yield from _as_recorded(target.observe(_MODEL), record)


def _apply(target: Target, record: Rollout, settle: Callable[[Rollout], None]) -> None:
    for tried in range(_TRIES):
        try:
            target.apply(record)
        except Retryable as error:
            if tried + 1 == _TRIES:
                raise NotConforming(
                    f"epoch {record.epoch} is not in force after {_TRIES} calls of apply: {error}"
                ) from error
        else:
            settle(record)
            return
        settle(record)


def _as_recorded(seen: Observation | None, record: Rollout) -> Iterator[str]:
    if seen is None:
        yield f"epoch {record.epoch} was applied and observe tells nothing"
        return
    if seen.weight_bp > record.weight_bp:
        yield f"{seen.weight_bp} bp go to the canary where the record says {record.weight_bp}"
    if seen.champion != record.champion:
        yield f"champion {seen.champion!r} is served where the record says {record.champion!r}"
    if record.weight_bp and seen.weight_bp == record.weight_bp and seen.canary != record.canary:
        yield f"canary {seen.canary!r} is served where the record says {record.canary!r}"


def _older_epoch(make: Callable[[], Target], settle: Callable[[Rollout], None]) -> Iterator[str]:
    newer, older = _rollout(_NEWER, 0), _rollout(_OLDER, _STEPS_BP[1])
    _apply(make(), newer, settle)
    try:
        make().apply(older)
        settle(older)
    except Retryable:
        # Saying so is right, too.
        settle(newer)
    seen = make().observe(_MODEL)
    if seen is not None and seen.weight_bp > 0:
        yield "a record of an older epoch moved traffic; a replaced controller must change nothing"
