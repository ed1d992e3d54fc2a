"""The one page at the end: what happened when, and how the model served before, during and after."""

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from stationkeeper.contracts.messages import DeploymentAction
from stationkeeper.contracts.times import format_duration, to_datetime, to_ms
from stationkeeper.demo.calendars import PolicyTable
from stationkeeper.demo.gain import Gain
from stationkeeper.demo.loop_history import LoopHistory
from stationkeeper.demo.scenario import Plot
from stationkeeper.demo.served import Stretch, stretch, taken_over_ms


@dataclass(frozen=True, slots=True)
class DemoSummary:
    """The result of a demo run, as printed and as JSON; times are RFC 3339 on the stream clock."""

    scenario: str
    passed: bool
    verdict: str
    timeline: tuple[dict[str, str], ...]
    pages: int
    requests: int
    events: int
    seen_after_events: int | None
    seen_after: str | None
    stretches: tuple[Stretch, ...]
    wall_seconds: float
    gain: Gain | None = None
    policies: PolicyTable | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def summarise(
    scenario: str, plot: Plot, history: LoopHistory, served: pl.DataFrame, span: tuple[int, int], wall_seconds: float
) -> DemoSummary:
    """Judge the run: with a shift the loop must have closed, without one nothing may have happened."""
    onset = plot.onset_ms
    page = history.pages[0] if history.pages else None
    page_ms = to_ms(page.time) if page else None
    # Where nothing was planted the story is told from the onset that the loop itself found.
    if onset is None:
        onset = _cured_onset(history)
    stage = history.stage()
    if plot.expects_cure:
        passed = stage == "closed"
        verdict = "the loop closed" if passed else f"the loop did not close: {stage}"
    else:
        # Without a shift both must be absent: a request without a page would be a retraining that nobody was told of.
        passed = not history.pages and not history.requests
        verdict = (
            "no page and no request, as it should be"
            if passed
            else f"{len(history.pages)} page(s) and {len(history.requests)} request(s) without any shift"
        )
    cured_ms, followed_ms = (
        taken_over_ms(served, one.champion, to_ms(one.time)) if one else None
        for one in (history.promoted, history.followed)
    )
    seen = None
    if plot.onset_ms is not None and page_ms is not None:
        seen = served.filter((pl.col("time") >= plot.onset_ms) & (pl.col("time") < page_ms)).height
    return DemoSummary(
        scenario=scenario,
        passed=passed,
        verdict=verdict,
        timeline=tuple(_timeline(plot, history, cured_ms)),
        pages=len(history.pages),
        requests=len(history.requests),
        events=served.height,
        seen_after_events=seen,
        seen_after=_span(plot.onset_ms, page_ms),
        stretches=tuple(_stretches(served, span, onset, cured_ms, followed_ms)),
        wall_seconds=round(wall_seconds, 1),
    )


def _cured_onset(history: LoopHistory) -> int | None:
    """Return when the change began that the replacement was asked for, else the first that asked for one."""
    wanted = history.promoted.request if history.promoted else None
    found = [request for request in history.requests if request.id == wanted] or history.requests
    return to_ms(found[0].onset.time) if found else None


def _span(start_ms: int | None, end_ms: int | None) -> str | None:
    if start_ms is None or end_ms is None:
        return None
    return format_duration(max(end_ms - start_ms, 0) // 60_000 * 60_000)


def _hours(span_ms: int) -> str:
    minutes = max(span_ms, 0) // 60_000
    return f"{minutes // 60}:{minutes % 60:02d} h"


def _stretches(
    served: pl.DataFrame, span: tuple[int, int], onset_ms: int | None, cured_ms: int | None, followed_ms: int | None
) -> list[Stretch]:
    start_ms, end_ms = span
    if onset_ms is None:
        return [stretch(served, "whole run", start_ms, end_ms)]
    during_end = cured_ms if cured_ms is not None else end_ms
    stretches = [stretch(served, "before", start_ms, onset_ms), stretch(served, "during", onset_ms, during_end)]
    if cured_ms is not None:
        stretches.append(stretch(served, "after", cured_ms, followed_ms or end_ms))
    if followed_ms is not None:
        stretches.append(stretch(served, "after the follow-up", followed_ms, end_ms))
    return stretches


def _timeline(plot: Plot, history: LoopHistory, cured_ms: int | None) -> list[dict[str, str]]:
    rows: list[tuple[int, str, str]] = []
    if plot.onset_ms is not None:
        rows.append((plot.onset_ms, "shift began", plot.onset_text))
    # Three of each: a run that goes wrong pages on, and the page at the end must stay one page.
    for page in history.pages[:3]:
        found = f"{page.kind} · {page.subject.name}: {page.reason}"
        rows.append((to_ms(page.time), "seen", found))
    rows += [(to_ms(r.time), "request", f"{r.id} for incident {r.incident}") for r in history.requests[:3]]
    for candidate in history.candidates[:3]:
        what = f"snapshot {candidate.snapshot[:12]}, run {candidate.run_id[:12]}, version {candidate.version}"
        rows.append((to_ms(candidate.time), "snapshot, run", what))
        rows.append((to_ms(candidate.time), f"gate: {candidate.gate}", candidate.gate_reason))
    for deployment in history.deployments:
        if deployment.action is not DeploymentAction.ADOPTED:
            name = f"{deployment.action} {deployment.weight_bp / 100:g} %".replace("_", " ")
            rows.append((to_ms(deployment.time), name, deployment.reason))
    if history.promoted is not None and cured_ms is not None:
        rows.append((cured_ms, "took over", f"version {history.promoted.champion} answers every request"))
    # By the place in the list within one moment: cause before effect, as they were added.
    ordered = sorted(enumerate(rows), key=lambda row: (row[1][0], row[0]))
    return [
        {
            "time": to_datetime(time).isoformat(),
            "since": "" if plot.onset_ms is None else _hours(time - plot.onset_ms),
            "what": what,
            "detail": detail,
        }
        for _, (time, what, detail) in ordered
    ]


def show(summary: DemoSummary, console: Console) -> None:
    """Print the page."""
    timeline = Table(title="What happened", title_justify="left", show_edge=False, pad_edge=False)
    for column in ("when", "since onset", "what", "detail"):
        timeline.add_column(column, overflow="fold", no_wrap=column == "when")
    for row in summary.timeline:
        timeline.add_row(row["time"][:16].replace("T", " "), row["since"], row["what"], row["detail"])
    table = Table(title="How the model served", title_justify="left", show_edge=False, pad_edge=False)
    for column in ("stretch", "events", "labelled", "flagged", "precision", "recall", "confidence"):
        table.add_column(column, justify="left" if column == "stretch" else "right")
    for part in summary.stretches:
        ratios = [
            f"{value:.3f}" if value is not None else "unknown"
            for value in (part.precision, part.recall, part.confidence)
        ]
        table.add_row(part.name, f"{part.events:,}", f"{part.labelled:,}", f"{part.flagged:,}", *ratios)
    console.print()
    console.print(timeline)
    console.print()
    console.print(table)
    console.print()
    if summary.seen_after is not None:
        console.print(f"Seen {summary.seen_after_events:,} events and {summary.seen_after} after the planted moment.")
    if summary.gain is not None:
        console.print(summary.gain.sentence())
    if summary.policies is not None:
        _show_policies(summary.policies, console)
    word, style = ("PASSED", "bold green") if summary.passed else ("FAILED", "bold red")
    console.print(
        f"[{style}]{word}[/]: {summary.verdict}. "
        f"{summary.events:,} events, {summary.pages} page(s), {summary.requests} request(s), "
        f"{summary.wall_seconds:.0f} s."
    )


def _show_policies(found: PolicyTable, console: Console) -> None:
    title = (
        f"When to retrain: the same {found.events:,} labelled events, {found.weeks} weeks, {found.price:g} wrong "
        "answers for a training"
    )
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in ("policy", "wrong", "log loss", "retrains", "cost"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for row in found.rows:
        table.add_row(row.name, f"{row.wrong:.2%}", f"{row.log_loss:.4f}", f"{row.retrains}", f"{row.cost:,.0f}")
    console.print(table)
    console.print(
        f"Ours is what this run did: {found.promoted} of its trainings came to answer. The others answer at once, "
        "without gate or canary, by all labels of the weeks before; the oracle knows the weeks to come."
    )
    console.print()
