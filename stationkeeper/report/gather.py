"""``stationkeeper report``: what happened to a model in a period, gathered from the log or from a backtest's lines."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from stationkeeper.backtesting.course import Change, Comparison, Course, RuleCourse
from stationkeeper.contracts.messages import Candidate, Deployment, Level, RetrainRequest, Verdict, VerdictKind
from stationkeeper.contracts.model_status import PerformanceStatus, SubjectStatus
from stationkeeper.contracts.times import to_datetime, to_ms
from stationkeeper.contracts.topics import Topics
from stationkeeper.explain.lineage import Lineage
from stationkeeper.monitor.core.charts import SegmentPart
from stationkeeper.monitor.core.performance import SegmentGap
from stationkeeper.monitor.core.reference import Task
from stationkeeper.report.history import History, Moved, read_history
from stationkeeper.report.segments import gaps_of, located
from stationkeeper.streams.ports import Reader

MOST_PLOTTED = 4
"""Subjects of an incident that a backtest's report plots."""

# Rows used as time (a file without a time column) stay far below any year that a model was served in.
EARLIEST_REAL_MS = 100_000_000_000


class ReportError(ValueError):
    """Nothing to report, or a line that is not a verdict; the message names the file, the line and what to do."""


@dataclass(frozen=True, slots=True)
class ReportedFinding:
    """One verdict, from the verdicts topic or from a line of ``backtest``; times are epoch ms, rows 0-based.

    ``case`` says that it pages or belongs to an incident.
    """

    id: str
    time: int | None
    row: int | None
    model: str
    version: str
    segment: str
    subject: str
    kind: str
    level: str
    cause: str
    reason: str
    rows: int
    incident: str
    statistic: float | None = None
    threshold: float | None = None
    effect: float | None = None
    onset: int | None = None
    onset_low: int | None = None
    onset_high: int | None = None
    onset_row: int | None = None
    case: bool = True
    harm: str = ""

    @property
    def by_row(self) -> bool:
        """Return whether row numbers stand for time."""
        return self.time is None or self.time < EARLIEST_REAL_MS


@dataclass(frozen=True, slots=True)
class Case:
    """The findings of one incident in order, and how it ended."""

    id: str
    findings: tuple[ReportedFinding, ...]
    recovered: ReportedFinding | None = None

    @property
    def first(self) -> ReportedFinding:
        """Return the finding that opened it."""
        return self.findings[0]

    @property
    def since(self) -> int | None:
        """Return when it began, else when it was seen, in epoch ms."""
        return self.first.onset if self.first.onset is not None else self.first.time

    @property
    def until(self) -> int | None:
        """Return when it ended, None while it lasts."""
        return self.recovered.time if self.recovered is not None else None

    @property
    def subjects(self) -> list[str]:
        """Return what moved, the leader first, each once."""
        return list(dict.fromkeys(finding.subject for finding in self.findings))


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a report shows of one model between two times; ``segments`` says where each incident's change lies."""

    model: str
    source: str
    start: int | None
    end: int | None
    cases: tuple[Case, ...]
    findings: tuple[ReportedFinding, ...]
    requests: tuple[RetrainRequest, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    subjects: tuple[SubjectStatus, ...] = ()
    performance: tuple[PerformanceStatus, ...] = ()
    comparison: Comparison | None = None
    segments: Mapping[str, tuple[SegmentPart, ...]] = field(default_factory=dict)
    gaps: tuple[SegmentGap, ...] = ()
    reproduce: tuple[str, ...] = field(default=())


def finding_of(line: Mapping[str, Any]) -> ReportedFinding:
    """Read a verdict as plain data: a ``Verdict`` or a line of ``backtest``; raises ``KeyError`` or ``ValueError``."""
    subject = line["subject"]
    onset = line.get("onset") or {}
    # A line of a backtest has the name and the check apart, a verdict has both in its subject.
    name = subject if isinstance(subject, str) else subject["name"] + (f" {c}" if (c := subject.get("check")) else "")
    time, kind = _ms(line.get("time")), str(line["kind"])
    return ReportedFinding(
        id=str(line.get("id", "")),
        time=time,
        row=line.get("row"),
        model=str(line.get("model", "")),
        version=str(line.get("version", "")),
        segment=str(line.get("segment") or ""),
        subject=name,
        kind=kind,
        level=str(line.get("level", "page")),
        cause=str(line.get("cause", "")),
        reason=str(line.get("reason", "")),
        rows=int(line.get("rows", 0)),
        # A verdict of no incident is a case of its own; without any id its kind, subject and time tell it from others.
        incident=str(line.get("incident") or line.get("id") or f"{kind} {name} {time}"),
        statistic=line.get("statistic"),
        threshold=line.get("threshold"),
        effect=line.get("effect"),
        onset=_ms(line.get("onset_time", onset.get("time"))),
        onset_low=_ms(onset.get("low")),
        onset_high=_ms(onset.get("high")),
        onset_row=line.get("onset_row", onset.get("row")),
        case=bool(line.get("incident")) or str(line.get("level", Level.PAGE)) == Level.PAGE,
        harm=str((line.get("evidence") or {}).get("harm", {}).get("words", "")),
    )


def _ms(time: Any) -> int | None:
    if time is None:
        return None
    return int(time) if isinstance(time, int | float) else to_ms(datetime.fromisoformat(str(time)))


def cases_of(findings: Iterable[ReportedFinding]) -> tuple[Case, ...]:
    """Join findings into incidents, in the order in which they were opened.

    What is below a page and in no incident is one of the verdicts, and no case of its own: the pages show none either.
    """
    opened: dict[str, list[ReportedFinding]] = {}
    ended: dict[str, ReportedFinding] = {}
    for finding in findings:
        # What a retraining did is told with its request.
        if not finding.case or finding.kind == VerdictKind.CURE:
            continue
        if finding.kind == VerdictKind.RECOVERED:
            ended[finding.incident] = finding
        else:
            opened.setdefault(finding.incident, []).append(finding)
    return tuple(Case(name, tuple(found), ended.get(name)) for name, found in opened.items())


def read_lines(path: Path, rules: dict[str, list[Mapping[str, Any]]] | None = None) -> Iterator[ReportedFinding]:
    """Yield the findings of a file with one JSON object a line; raises ``ReportError`` naming the line.

    Alarms of fixed rules (``backtest --compare``) are no findings: they go to ``rules``, by rule.
    """
    # What is no UTF-8 is no JSON either, and is refused by the line it is in.
    with path.open(encoding="utf-8", errors="backslashreplace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                read = json.loads(line)
                if isinstance(read, dict) and "rule" in read:
                    if rules is not None:
                        rules.setdefault(str(read["rule"]), []).append(read)
                    continue
                yield finding_of(read)
            except (KeyError, TypeError, ValueError) as error:
                what = f"has no field {error}" if isinstance(error, KeyError) else f"cannot be read: {error}"
                raise ReportError(
                    f"{path}:{number} {what}; give the output of stationkeeper backtest, one JSON object a line"
                ) from None


def from_backtest(path: Path, model: str | None = None, changes: Sequence[Change] = ()) -> Report:
    """Return the report of a backtest's output; ``model`` is needed only where the file holds several.

    With the lines of ``--compare`` or known ``changes`` it has a timeline of all alarms.
    """
    rules: dict[str, list[Mapping[str, Any]]] = {}
    findings = list(read_lines(path, rules))
    models = sorted({finding.model for finding in findings})
    if model is None and len(models) > 1:
        raise ReportError(f"{path} holds the models {', '.join(models)}; choose one with --model")
    # A backtest that found nothing has no line that names the model, and its report says so under the file's name.
    chosen = model if model is not None else models[0] if models else path.stem
    kept = tuple(finding for finding in findings if finding.model == chosen)
    if findings and not kept:
        raise ReportError(f"{path} holds no verdict of {chosen!r}; it holds {', '.join(models)}")
    times = [finding.time for finding in kept if finding.time is not None and not finding.by_row]
    return Report(
        model=chosen,
        source=f"the backtest {path.name}",
        start=min(times, default=None),
        end=max(times, default=None),
        cases=cases_of(kept),
        findings=kept,
        comparison=_compared(kept, rules, changes) if rules or changes else None,
        reproduce=(f"stationkeeper report --backtest {path.name}",),
    )


def _compared(
    findings: Sequence[ReportedFinding], rules: Mapping[str, Sequence[Mapping[str, Any]]], changes: Sequence[Change]
) -> Comparison:
    """The axis of a file that is known only by its lines: from its first to its last event."""
    courses = []
    for name, lines in rules.items():
        marks = [at for line in lines if (at := _ms(line.get("time", line.get("row")))) is not None]
        courses.append(RuleCourse(name, tuple(marks), lines[0].get("threshold")))
    by_row = all(finding.by_row for finding in findings)
    mine = [at for f in findings for at in (f.time, f.onset) if at is not None]
    known = [*mine, *(mark for course in courses for mark in course.marks), *(change.at for change in changes)]
    # Rows are counted from the first; the first year of an epoch would squeeze times into a corner.
    start = 0 if by_row else min(known, default=0)
    return Comparison(start, max(known, default=1), by_row, tuple(courses), tuple(changes))


def from_course(
    course: Course,
    lines: Sequence[Mapping[str, Any]],
    source: str,
    command: str,
    changes: Sequence[Change] = (),
) -> Report:
    """Return the report of a backtest that has just run, with the course of what it moved; ``lines`` are as printed."""
    findings = tuple(finding_of(line) for line in lines)
    cases = cases_of(findings)
    comparison = course.comparison(changes)
    moved = {
        case.id: list(dict.fromkeys([case.first.subject, *_named(lines, case.id)]))[:MOST_PLOTTED] for case in cases
    }
    return Report(
        model=findings[0].model if findings else course.model,
        source=source,
        start=None if comparison.by_row else comparison.start,
        end=None if comparison.by_row else comparison.end,
        cases=cases,
        findings=findings,
        subjects=tuple(_moved(course, cases, moved)),
        comparison=comparison,
        performance=course.performance,
        reproduce=(command,),
    )


def _moved(course: Course, cases: Iterable[Case], names: Mapping[str, list[str]]) -> Iterator[SubjectStatus]:
    """Yield each case's subjects with their course under the reference that was in force; ``names`` by case id."""
    for case in cases:
        first = case.first.time if case.first.time is not None else case.since
        for epoch in course.epochs:
            if not epoch.counts or first is None:
                continue
            # An incident is drawn under the reference that was in force when it was seen: cells of another do not
            # compare.
            if not min(epoch.counts) <= first <= max(epoch.counts) + course.step_length:
                continue
            history = History(course.step_length, {epoch.reference.digest: epoch.reference})
            history.vectors = {(epoch.reference.digest, at): counts for at, counts in epoch.counts.items()}
            # An onset may lie in the middle of a step, which then belongs to the incident.
            since = None if case.since is None else case.since - course.step_length
            for status in history.subjects([Moved(case.id, names[case.id], since, case.until)]):
                series = status.get("series")
                if series is not None:
                    series["ratio"] = [epoch.ratios.get(at, {}).get(status["name"]) for at in series["time"]]
                yield status
            break


def _named(lines: Sequence[Mapping[str, Any]], incident: str) -> list[str]:
    return [str(name) for line in lines if line.get("incident") == incident for name in line.get("subjects", ())]


def from_log(reader: Reader, topics: Topics, model: str, start: int | None = None, end: int | None = None) -> Report:
    """Return the report of a model from the topics, for times in [start, end) ms; None is the log's own bound.

    Raises ``ReportError`` when the log knows nothing of the model.
    """
    log = Lineage(reader, topics)
    known = sorted({v.model for v in log.verdicts} | set(log.rollouts))
    history = read_history(reader, topics, model, start, end)
    if model not in known and not history.rows:
        seen = f"it knows {', '.join(known)}" if known else "it knows no model yet"
        raise ReportError(f"the log has nothing of the model {model!r}; {seen}")

    def inside(message: Verdict | RetrainRequest | Candidate | Deployment) -> bool:
        at = to_ms(message.time)
        return message.model == model and (start is None or at >= start) and (end is None or at < end)

    verdicts = [v.model_dump(mode="json", exclude_none=True) for v in log.verdicts if inside(v)]
    findings = tuple(finding_of(verdict) for verdict in verdicts)
    cases = cases_of(findings)
    moved = [Moved(c.id, c.subjects, c.since, c.until) for c in cases]
    times: Sequence[int] = [finding.time for finding in findings if finding.time is not None]
    bounds = (("from", start), ("to", end))
    period = "".join(f" --{name} {to_datetime(at).isoformat()}" for name, at in bounds if at is not None)
    return Report(
        model=model,
        source=f"the topics {topics.verdicts.name} and {topics.history.name}",
        # Without a period asked for, the report's is what the log holds.
        start=start if start is not None else min([*times, *history.times()], default=None),
        end=end if end is not None else max([*times, *history.times()], default=None),
        cases=cases,
        findings=findings,
        requests=tuple(r for r in log.requests.values() if inside(r)),
        candidates=tuple(c for c in log.candidates.values() if inside(c)),
        deployments=tuple(d for d in log.deployments if inside(d)),
        subjects=tuple(history.subjects(moved)),
        segments=located(reader, topics, model, moved, history.references, length=history.length, start=start, end=end),
        gaps=_gaps(reader, topics, model, history, start, end),
        performance=tuple(history.performance()),
        reproduce=(
            f"stationkeeper report --model {model}{period}",
            # Five commands show how; the ids of all others stand with their incidents.
            *(f"stationkeeper explain {case.id}" for case in cases[:5]),
        ),
    )


def _gaps(
    reader: Reader, topics: Topics, model: str, history: History, start: int | None, end: int | None
) -> tuple[SegmentGap, ...]:
    """The gaps between segments of a model of two classes; other tasks have no such rates."""
    tasks = {reference.task for reference in history.references.values()}
    if not tasks <= {None, Task.BINARY}:
        return ()
    return gaps_of(reader, topics, model, length=history.length, start=start, end=end)


TIMELINE = "timeline"
"""The plot of all alarms, which is of no one subject."""


def write_plot(report: Report, subject: str, path: Path, *, dark: bool = False) -> None:
    """Write one plot as an SVG or PNG file: the distance of a subject over the period, or the ``timeline`` of alarms.

    Raises ``ReportError`` for an unknown one, and where PNG cannot be drawn.
    """
    from stationkeeper.report.figures import distance_figure, timeline
    from stationkeeper.report.plot_file import NoDrawing, write_plot_file

    found = next((s for s in report.subjects if s["name"] == subject), None)
    case = next((c for c in report.cases if found is not None and c.id == found.get("incident")), None)
    drawn = (
        timeline(report)
        if subject == TIMELINE
        else None
        if found is None
        else distance_figure(found, case, report, subject)
    )
    if drawn is None:
        known = [*(s["name"] for s in report.subjects), *([TIMELINE] if report.comparison is not None else [])]
        raise ReportError(
            f"nothing called {subject!r} moved in this period; plots exist for: {', '.join(known) or 'none'}"
        )
    try:
        named = report.model if subject == TIMELINE else f"{report.model}: {subject}"
        write_plot_file(drawn, path, named, dark=dark)
    except NoDrawing as error:
        raise ReportError(str(error)) from error


def write(report: Report, path: Path) -> None:
    """Write one self-contained HTML file."""
    from stationkeeper.report.page import report_page

    path.write_text(report_page(report), encoding="utf-8")
