"""How long it takes until production is back on the champion: asked for really, or rehearsed where nothing is out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.targets import Target, serves
from stationkeeper.streams.errors import Retryable

# How often the log and each target are asked: the drill tells tenths of a second, and a minute of it is 240 calls,
# which no cloud's quota feels.
_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class WayBack:
    """Seconds until the log, or a target, no longer served the bad version; None where it did all the time."""

    what: str
    seconds: float | None
    seen: str


def restored(
    bad: Rollout,
    champion: str,
    record: Callable[[], Rollout],
    targets: Sequence[Target],
    within_s: float,
    now: Callable[[], float] = time.monotonic,
) -> list[WayBack]:
    """Wait until neither the log nor a target of its model serves what ``bad`` let out; at most ``within_s`` seconds.

    ``champion`` answers instead: alone, or beside the candidate that waited for ``bad`` to end and is the next canary.
    Called as soon as the way back was asked for. A target that cannot be asked meanwhile is asked again.
    """
    began = now()
    # By position too: two targets of one kind have one name, and the one that is back must not hide the other.
    waiting: dict[tuple[int, str], Callable[[], tuple[bool, str]]] = {
        (0, "log"): lambda: _record_of(record(), bad, champion)
    }
    mine = [target for target in targets if serves(target, bad.model)]
    out = bad.canary or bad.champion
    waiting |= {(place, one.name): _look(one, bad.model, champion, out) for place, one in enumerate(mine, 1)}
    found: dict[tuple[int, str], WayBack] = {}
    while True:
        for what, look in list(waiting.items()):
            try:
                there, seen = look()
            except Retryable as error:
                there, seen = False, str(error)
            found[what] = WayBack(what[1], round(now() - began, 2) if there else None, seen)
            if there:
                del waiting[what]
        if not waiting or now() - began > within_s:
            return list(found.values())
        time.sleep(_EVERY_S)


def rehearsed(rollout: Rollout, targets: Sequence[Target], now: Callable[[], float] = time.monotonic) -> list[WayBack]:
    """Apply the present record once more to each target and read it back: nothing moves, as a record may be repeated.

    It measures the way that a rollback takes, without what loads or moves traffic on the platform.
    """
    found = []
    for target in targets:
        if not serves(target, rollout.model):
            continue
        began = now()
        try:
            target.apply(rollout)
            there, seen = _look(target, rollout.model, rollout.champion)()
        except Retryable as error:
            there, seen = False, str(error)
        found.append(WayBack(target.name, round(now() - began, 2) if there else None, seen))
    return found


def _record_of(rollout: Rollout, bad: Rollout, champion: str) -> tuple[bool, str]:
    # A candidate that waited goes out in the same moment as the old one is dropped: then "alone" is never to be seen.
    gone = rollout.canary is None or rollout.epoch != bad.epoch or rollout.canary != bad.canary
    return (
        gone and rollout.champion == champion,
        f"champion {rollout.champion}, canary {rollout.canary or 'none'}: {rollout.reason}",
    )


def _look(target: Target, model: str, champion: str, out: str | None = None) -> Callable[[], tuple[bool, str]]:
    def look() -> tuple[bool, str]:
        seen = target.observe(model)
        if seen is None:
            return False, "it does not know the model"
        # Without ``out`` any canary is one too many; with it the next one may have its place.
        gone = seen.weight_bp == 0 or (out is not None and seen.canary not in {None, out})
        return (
            seen.champion == champion and gone,
            f"champion {seen.champion}, {seen.weight_bp / 100:g} % to {seen.canary or 'nobody'}",
        )

    return look
