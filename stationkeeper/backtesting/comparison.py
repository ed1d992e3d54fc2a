"""What two configurations said of one past, side by side: counts by kind, and which pages both have."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from stationkeeper.contracts.messages import Level, RetrainRequest, Verdict
from stationkeeper.contracts.times import format_duration, to_datetime, to_ms
from stationkeeper.monitor.judge import Rejudge

SAME_PANES = 60
"""Pages of two configurations on one subject count as the same one where their onsets are no further apart.

An hour of minutes, the window that a configuration judges by: half makes a page that another budget sees later a new
one, double joins two changes of one afternoon."""

_REASON = 80
"""Characters of a reason in the list of pages: one line of a terminal beside its time and subject."""


@dataclass(slots=True)
class Side:
    """One configuration and what it said of the period."""

    name: str
    judge: Rejudge
    verdicts: list[Verdict] = field(default_factory=list)
    requests: list[RetrainRequest] = field(default_factory=list)

    @property
    def pages(self) -> list[Verdict]:
        """Return the verdicts that page."""
        return [verdict for verdict in self.verdicts if verdict.level is Level.PAGE]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """What a replay found: the period (ms), each configuration's word, and the pages that the log itself holds."""

    model: str
    start: int
    end: int
    sides: tuple[Side, ...]
    logged: tuple[Verdict, ...]
    changes: tuple[str, ...]
    notes: tuple[str, ...]

    def rows(self) -> list[tuple[str, list[int]]]:
        """Return the table of the summary: what is counted, and its count for each side and for the log."""
        pages = [*(side.pages for side in self.sides), [v for v in self.logged if v.level is Level.PAGE]]
        everything = [*(side.verdicts for side in self.sides), list(self.logged)]
        kinds = sorted({verdict.kind.value for said in pages for verdict in said})
        by_kind = [Counter(verdict.kind.value for verdict in said) for said in pages]
        warnings = [sum(verdict.level is Level.WARN for verdict in said) for said in everything]
        return [
            ("pages", [len(said) for said in pages]),
            *((f"  {kind}", [count[kind] for count in by_kind]) for kind in kinds),
            ("warnings", warnings),
        ]

    def lines(self) -> Iterator[str]:
        """Yield the summary for a person."""
        panes, rows = self.sides[0].judge.panes, self.sides[0].judge.rows
        period = f"{to_datetime(self.start):%Y-%m-%d %H:%M} to {to_datetime(self.end):%Y-%m-%d %H:%M} UTC"
        yield f"{self.model}, {period}; {panes:,} panes with {rows:,} rows of history judged anew"
        yield from (f"changed: {change}" for change in self.changes)
        yield from (f"note: {note}" for note in self.notes)
        heads = [*(side.name for side in self.sides), "log"]
        yield f"{'':24}" + "".join(f"{head:>10}" for head in heads)
        for name, counts in self.rows():
            yield f"{name:24}" + "".join(f"{count:>10}" for count in counts)
        yield f"{'retrain requests':24}" + "".join(f"{len(side.requests):>10}" for side in self.sides)
        if len(self.sides) > 1:
            yield from self._difference(*self.sides)

    def _difference(self, running: Side, changed: Side) -> Iterator[str]:
        slack = SAME_PANES * max(side.judge.settings.pane for side in (running, changed))
        both, before, after = matched(running.pages, changed.pages, slack)
        yield from (f"  both     {_words(one)} / {to_datetime(to_ms(other.time)):%d %H:%M}" for one, other in both)
        yield from (f"  no more  {_words(verdict)}" for verdict in before)
        yield from (f"  new      {_words(verdict)}" for verdict in after)
        yield (
            f"{self.model} would have paged {len(changed.pages)} times instead of {len(running.pages)} "
            f"in {format_duration(round((self.end - self.start) / 60_000) * 60_000)}"
        )


def _words(verdict: Verdict) -> str:
    where = f" in {verdict.segment}" if verdict.segment else ""
    what = f"{verdict.kind.value}  {verdict.subject.name}{where}: {verdict.reason[:_REASON]}"
    return f"{verdict.time:%Y-%m-%d %H:%M}  {what}"


def matched(
    one: list[Verdict], other: list[Verdict], slack: int
) -> tuple[list[tuple[Verdict, Verdict]], list[Verdict], list[Verdict]]:
    """Return pages that both have, pages of ``one`` alone, pages of ``other`` alone; the nearest in time pair up.

    Two pages are the same where model version, segment and quality or drift agree and their onsets, or the times they
    were seen, lie within ``slack`` ms.
    """
    left, pairs = list(other), list[tuple[Verdict, Verdict]]()
    alone: list[Verdict] = []
    for page in one:
        near = [p for p in left if _alike(page, p) and _apart(page, p) <= slack]
        best = min(near, key=lambda p: (_apart(page, p), p.id), default=None)
        if best is None:
            alone.append(page)
        else:
            left.remove(best)
            pairs.append((page, best))
    return pairs, alone, left


def _alike(one: Verdict, other: Verdict) -> bool:
    return (one.version, one.segment, one.subject.check is None) == (
        other.version,
        other.segment,
        other.subject.check is None,
    )


def _apart(one: Verdict, other: Verdict) -> float:
    seen = abs(to_ms(one.time) - to_ms(other.time))
    if one.onset is None or other.onset is None:
        return seen
    return min(seen, abs(to_ms(one.onset.time) - to_ms(other.onset.time)))
