"""Judges the canaries of others' controllers (Argo Rollouts, Flagger): closed minutes read from the log when asked.

Nothing is kept but what the log says, so a restart answers alike. The log is read in the request's own thread, for a
bounded time, and only where somebody asks.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from stationkeeper.contracts.wire import ArmDelta, OutcomeDelta, PaneDelta, WireError, decode
from stationkeeper.deploy.core.analysis import CanaryComparison, CanaryFinding, Judgement, nothing, pair
from stationkeeper.deploy.core.minutes import Minute, MinuteBook
from stationkeeper.deploy.core.policy import Policy
from stationkeeper.deploy.core.reasons import Reason, because
from stationkeeper.streams.errors import TopicMissing
from stationkeeper.streams.ports import Partition, Reader

# Both controllers wait ten seconds for an answer; half is for the way. A longer history is gone on with next time.
_READ_S = 5.0
# How long the log is waited for at a time: each wait is a request to the broker, and four a second are no load.
_FOLLOW_S = 0.25
# Comparisons kept, the first that came goes first: of each model one rollout is under way and one may be looked back
# at; eight hold that of four models, and what went is read again from the log.
_KEPT = 8


# What each hook of Flagger asks. To go on with the ramp needs no proof, only both arms and no harm.
HOOKS: Mapping[str, Callable[[CanaryFinding], bool]] = {
    "rollback": lambda found: found.judgement is Judgement.FAILED,
    "promotion": lambda found: found.judgement is Judgement.SUCCESSFUL,
    "advance": lambda found: found.judgement is not Judgement.FAILED and found.minutes > 0,
}


@dataclass(slots=True)
class _Model:
    """What was read of one model: its minutes since the longest rollout, and the comparisons that follow them."""

    policy: Policy
    book: MinuteBook = field(default_factory=MinuteBook)
    minutes: deque[Minute] = field(default_factory=deque)
    comparisons: dict[tuple[str, str], CanaryComparison] = field(default_factory=dict)

    def see(self, record: ArmDelta | OutcomeDelta | PaneDelta) -> None:
        closed = self.book.add(record)
        if closed is None:
            return
        self.minutes.append(closed)
        # Longer than a rollout may last nobody asks back (`rollout.max_duration`).
        while closed.end - self.minutes[0].start > self.policy.max_ms:
            self.minutes.popleft()
        for one in self.comparisons.values():
            one.add(closed)

    def comparison(self, champion: str, canary: str) -> CanaryComparison:
        known = self.comparisons.get((champion, canary))
        if known is None:
            known = self.comparisons[champion, canary] = CanaryComparison(champion, canary, self.policy)
            for minute in self.minutes:
                known.add(minute)
            while len(self.comparisons) > _KEPT:
                del self.comparisons[next(iter(self.comparisons))]
        return known


class Analyses:
    """Answers for every configured model, one question at a time; ``reader`` is made at the first one."""

    def __init__(self, reader: Callable[[], Reader], history: str, policies: Mapping[str, Policy]) -> None:
        self._make_reader, self._history = reader, history
        self._reader: Reader | None = None
        self._positions: dict[Partition, int] = {}
        self._models = {name: _Model(policy) for name, policy in policies.items()}
        self._lock = threading.Lock()

    hooks = tuple(HOOKS)

    @property
    def models(self) -> list[str]:
        """Return the names that can be asked for."""
        return sorted(self._models)

    def finding(
        self, model: str, champion: str | None = None, canary: str | None = None, *, labels: bool | None = None
    ) -> CanaryFinding:
        """Return what the log says so far of a configured model; raises ``Retryable`` when no broker answers.

        Versions left out are found. ``labels``: whether success rests on labelled rows, left out where labels come.
        """
        with self._lock:
            held = self._models[model]
            if not self._caught_up():
                return nothing(because(Reason.CATCHING_UP), champion, canary)
            champion, canary = pair(list(held.minutes), champion, canary)
            if champion is None or canary is None:
                seen = sorted({version for minute in held.minutes for version in minute.arms})
                numbers = {"champion": champion, "canary": canary, "seen": ", ".join(seen) or "none"}
                return nothing(because(Reason.NOT_COMPARED, **numbers), champion, canary)
            wants = held.policy.labels_expected or held.policy.promote_on_labels
            return held.comparison(champion, canary).finding(labels=wants if labels is None else labels)

    def answer(self, model: str, **asked: Any) -> dict[str, Any]:
        """Return `finding` as JSON (docs/argo-flagger.md)."""
        found = self.finding(model, **asked)
        shown = {key: value for key, value in asdict(found).items() if key not in {"because", "judgement"}}
        said = {"reason": found.because.text, "code": found.because.reason.value}
        return {"model": model, "verdict": found.judgement.value, **said, **shown}

    def allows(self, hook: str, model: str, **asked: Any) -> tuple[bool, str]:
        """Return the answer to one of ``HOOKS``, and the reason."""
        found = self.finding(model, **asked)
        return HOOKS[hook](found), f"{found.judgement.value}: {found.because.text}"

    def _caught_up(self) -> bool:
        if self._reader is None:
            self._reader = self._make_reader()
        reader, deadline = self._reader, time.monotonic() + _READ_S
        oldest = time.time() * 1_000 - max((one.policy.max_ms for one in self._models.values()), default=0)
        partitions = reader.partitions(self._history)
        if not partitions:
            raise TopicMissing(f"topic {self._history} does not exist yet; a role makes it as it starts")
        bounds = reader.bounds(partitions)
        for partition, (low, _) in bounds.items():
            self._positions[partition] = max(self._positions.get(partition, low), low)
        while behind := [one for one, (_, high) in bounds.items() if self._positions[one] < high]:
            if time.monotonic() > deadline:
                return False
            for batch in reader.follow(tuple(behind), self._positions, _FOLLOW_S):
                for stamp, value in zip(batch.timestamps.tolist(), batch.values, strict=True):
                    # The topic keeps a quarter of a year; what was written before the longest rollout is not decoded.
                    if stamp >= oldest:
                        self._see(value)
        return True

    def _see(self, value: bytes | None) -> None:
        try:
            records = decode(value) if value else ()
        except WireError:
            # What cannot be read is told and counted by the role that judges; here it is no row of either arm.
            return
        for record in records:
            if isinstance(record, ArmDelta | OutcomeDelta | PaneDelta) and record.model in self._models:
                self._models[record.model].see(record)
