"""How long it takes until production is back on the champion: asked for really, or rehearsed where nothing is out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stationkeeper.contracts.messages import Rollout
from stationkeeper.deploy.targets import Target, serves
from stationkeeper.streams.errors import Retryable

# How often the log and each target are asked: the answer is in seconds, and a cloud's API counts its calls.
_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class WayBack:
    """Seconds until the log, or a target, had the champion alone; None where it had not within the limit."""

    what: str
    seconds: float | None
    seen: str


def restored(
    model: str,
    champion: str,
    record: Callable[[], Rollout],
    targets: Sequence[Target],
    within_s: float,
    now: Callable[[], float] = time.monotonic,
) -> list[WayBack]:
    """Wait until the log says, and each target of the model serves, ``champion`` alone; at most ``within_s`` seconds.

    Called as soon as the way back was asked for. A target that cannot be asked meanwhile is asked again.
    """
    began = now()
    waiting: dict[str, Callable[[], tuple[bool, str]]] = {"log": lambda: _record_of(record(), champion)}
    waiting |= {one.name: _look(one, model, champion) for one in targets if serves(one, model)}
    found: dict[str, WayBack] = {}
    while True:
        for what, look in list(waiting.items()):
            try:
                there, seen = look()
            except Retryable as error:
                there, seen = False, str(error)
            found[what] = WayBack(what, round(now() - began, 2) if there else None, seen)
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


def _record_of(rollout: Rollout, champion: str) -> tuple[bool, str]:
    alone = rollout.canary is None and rollout.champion == champion
    return alone, f"champion {rollout.champion}, canary {rollout.canary or 'none'}: {rollout.reason}"


def _look(target: Target, model: str, champion: str) -> Callable[[], tuple[bool, str]]:
    def look() -> tuple[bool, str]:
        seen = target.observe(model)
        if seen is None:
            return False, "it does not know the model"
        alone = seen.champion == champion and seen.weight_bp == 0
        return alone, f"champion {seen.champion}, {seen.weight_bp / 100:g} % to {seen.canary or 'nobody'}"

    return look
