"""Spells of odd traffic: a stormy evening is told only where none of the last quarter was as odd, or when it lasts.

A few weeks teach how many events an hour brings, not how far its worst evening lies from that. So beside the evidence
against the hour's mean, a spell is set beside its like: among D exchangeable days the oddest is the newest with chance
1 / D, whatever the law of odd days is, and so a quarter of them allows four such warnings a year. The price: a loss no
odder than such an evening is told a day late; one of all traffic never is.
"""

from stationkeeper.contracts.state import State
from stationkeeper.monitor.core.adoption import DAY_MS

QUARTER_MS = 91 * DAY_MS
"""How long a spell stays among those that a new one must exceed. At a month twelve ordinary evenings a year are told;
at a year one hurricane hides what comes in the eleven months after it."""

APART_MS = 2 * DAY_MS
"""Odd panes at most so far apart are one spell: what comes back at the same hour of the day after next is no second
cause. At a day a timetable that moved by an hour is a new spell each morning after a quiet one; at a week two storms
are one."""

LASTING_MS = DAY_MS
"""A spell that is older than this is told whatever others were, as what lasts, or comes back on the day after, is no
evening; nor are evenings held beside one that lasted so long. At half, one that lasts from noon to midnight is told; at
double, a source that lost a part of its traffic after a storm is told two days late."""


class SpellsState(State, frozen=True):
    """The spell that goes on, ``done`` its nats before the last reset, and (end, nats) of those before within a day."""

    begin: int | None = None
    last: int = 0
    done: float = 0.0
    nats: float = 0.0
    before: tuple[tuple[int, float], ...] = ()


class Spells:
    """Odd spells of one stream of panes, in ms; at most 46 of a quarter are kept, as they lie two days apart.

    A spell's evidence in nats is that at which the detector crossed its threshold and began anew, added up, and what it
    has now. By hand: an evening crosses once at 17 and ends; the next one crosses at 15 and is held; a third that
    crosses at 15 and an hour later at 8 has 23, and is told with its second pane.
    """

    def __init__(self) -> None:
        self._now = SpellsState()

    def take(self, start: int, nats: float, *, crossed: bool) -> str | None:
        """Take an odd pane's evidence; returns why its spell is not told, None where it is. ``crossed``: it is reset.

        By hand: after a spell of 17 nats one of 15 is held: "15 nats within a day; within the last 91 days a spell had
        17".
        """
        now = self._now
        if now.begin is None or start - now.last > APART_MS:
            lasted = now.begin is not None and now.last - now.begin > LASTING_MS
            ended = () if now.begin is None or lasted else ((now.last, now.nats),)
            kept = tuple(one for one in now.before + ended if start - one[0] <= QUARTER_MS)
            now = SpellsState(begin=start, before=kept)
        total = now.done + nats
        begin = start if now.begin is None else now.begin
        self._now = SpellsState(
            begin=begin,
            last=start,
            done=total if crossed else now.done,
            nats=max(now.nats, total),
            before=now.before,
        )
        oddest = max((one for _, one in now.before), default=0.0)
        if start - begin > LASTING_MS or total > oddest:
            return None
        days = QUARTER_MS // DAY_MS
        return f"{total:.0f} nats within a day; within the last {days} days a spell had {oddest:.0f}"

    def outage(self) -> None:
        """Forget the spell that goes on: all traffic is silent, which pages by itself and is no ordinary evening."""
        self._now = SpellsState(before=self._now.before)

    def state(self) -> SpellsState:
        """Return what ``restore`` needs."""
        return self._now

    def restore(self, state: SpellsState) -> None:
        """Take over what ``state`` gave."""
        self._now = state
