"""A report as one HTML file that needs nothing else: for an auditor, a ticket, or the archive."""

import math
from collections import Counter
from collections.abc import Sequence
from importlib import resources

from stationkeeper.contracts.messages import Deployment, RetrainRequest
from stationkeeper.contracts.model_status import SubjectStatus
from stationkeeper.contracts.times import to_ms
from stationkeeper.monitor.core.charts import FEW_ROWS, SegmentPart
from stationkeeper.monitor.core.performance import SegmentGap
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.page.axes import LEFT, RIGHT, WIDTH, Axes, figure, legend
from stationkeeper.page.fleet_status import installed_version
from stationkeeper.page.frame import section, time_tag
from stationkeeper.page.markup import Child, Html, table, tag
from stationkeeper.page.model import measures_table
from stationkeeper.page.plots import distribution_plot, performance_plot
from stationkeeper.page.words import (
    KIND_WORDS,
    duration,
    incident_cause,
    integer,
    listing,
    number,
    percent,
    plural,
    span,
    when,
)
from stationkeeper.report.figures import distance_figure, evidence_figure, rules_table, timeline
from stationkeeper.report.gather import Case, Report, ReportedFinding

# Rows of a table in the file; the rest is counted in a line below it, so that a noisy year still opens in a browser.
MAX_LISTED = 500
# Height of one incident's bar with its gap, in pixels: a line of small text. Eight are left above the first bar, 34
# under the last for deployments' marks (4.5 in radius) and the axis.
_LANE = 18.0
_METHOD = (
    "Every decision rests on counts in cells that were frozen with the model version's reference. A detector turns "
    "the counts of each closed pane into an e-value; its natural logarithm is the evidence. Evidence reaches the "
    "threshold by chance at most as often as the budget of false pages of the whole model allows, whatever the "
    "dependence between features. Distances (PSI and others) are corrected for the number of rows; they inform and "
    "never decide. What moved together at one onset is one incident; a retrain request is named by model, version and "
    "incident, so that repeating it changes nothing."
)


def report_page(report: Report) -> str:
    """Return the whole file: words first, then every incident with its chain and plots, then all verdicts."""
    body = [
        tag("h1", f"{report.model}: drift report"),
        tag("p", _period(report), class_="lead"),
        tag("p", summary(report)),
        section("Course", _course(report), timeline(report), rules_table(report)),
        section("Incidents", [_case(case, report) for case in report.cases] or tag("p", "No incident in this period.")),
        section(
            "Performance of matured labels",
            tag("div", [performance_plot(m, None) for m in report.performance if "series" in m], class_="plots")
            if any("series" in m for m in report.performance)
            else None,
            measures_table(report.performance) if report.performance else None,
            _gaps(report.gaps),
            _told_gaps(report.cases),
        ),
        section("What was done to production", _deployments(report.deployments)),
        section("All verdicts", _findings(report.findings)),
        section("How it was decided", tag("p", _METHOD)),
        section("Make it again", _commands(report.reproduce) if report.reproduce else None),
    ]
    # Inside the file: a report is opened from a mail or an archive, where a link to a style leads nowhere.
    css = resources.files("stationkeeper.page").joinpath("static", "page.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{report.model}: drift report"),
        tag("style", Html(css)),
    )
    made = tag("footer", tag("span", f"Made by Stationkeeper {installed_version()} from {report.source}."))
    return "<!doctype html>\n" + tag("html", head, tag("body", tag("main", body), made), lang="en")


def _commands(lines: tuple[str, ...]) -> Html:
    """Commands in a box that the keyboard can scroll."""
    return tag("pre", tag("code", "\n".join(lines)), tabindex=0, role="region", aria_label="Commands")


def _period(report: Report) -> str:
    if report.start is None or report.end is None:
        rows = [finding.row for finding in report.findings if finding.row is not None]
        return (
            f"Rows up to {integer(max(rows))}, in the order of the file."
            if rows
            else "Nothing happened in this period."
        )
    return f"{when(report.start)} to {when(report.end)} ({duration(report.end - report.start)})."


def summary(report: Report) -> str:
    """Return what happened in two or three sentences, with counts that the tables below repeat."""
    if not report.cases:
        return "No incident was opened and nothing was asked for."
    kinds = Counter(case.first.kind for case in report.cases)
    # Four kinds are a sentence; the table of verdicts has all.
    named = listing([f"{count} × {KIND_WORDS.get(kind, kind).lower()}" for kind, count in kinds.most_common()], 4)
    pages = sum(any(f.level == "page" for f in case.findings) for case in report.cases)
    ended = sum(case.recovered is not None for case in report.cases)
    sentence = f"{plural(len(report.cases), 'incident')} ({named}); {integer(pages)} paged, {integer(ended)} ended. "
    actions = Counter(deployment.action.value for deployment in report.deployments)
    sentence += f"{plural(len(report.requests), 'retrain request')}, {plural(len(report.candidates), 'candidate')}"
    done = [
        f"{integer(actions[name])} {name.replace('_', ' ')}" for name in ("promoted", "rolled_back") if actions[name]
    ]
    return f"{sentence}{', ' + ', '.join(done) if done else ''}."


def moment(finding: ReportedFinding) -> Child:
    """Return when a finding was made: its time, or its row where a file has no times."""
    if finding.by_row:
        # Of a finding that nothing but silence decided there is no last row; its time is the row then.
        return f"row {integer(finding.row if finding.row is not None else finding.time or 0)}"
    return time_tag(finding.time)


def _onset(finding: ReportedFinding) -> Child:
    if finding.by_row:
        return f"row {integer(finding.onset_row)}" if finding.onset_row is not None else "not dated"
    if finding.onset is None:
        return "not dated"
    interval = ""
    if finding.onset_low is not None and finding.onset_high is not None:
        interval = f" (surely within {span(finding.onset_low, finding.onset_high)})"
    return [time_tag(finding.onset), interval]


def _course(report: Report) -> Html | None:
    """Draw incidents as bars from onset to end and deployments as marks, over the period."""
    # The timeline of alarms shows the same incidents, beside the rules.
    if report.comparison is not None and not report.deployments:
        return None
    dated = [case for case in report.cases if not case.first.by_row]
    if report.start is None or report.end is None or report.end <= report.start or not (dated or report.deployments):
        return None
    # A dozen bars are told apart at a glance; each incident has its own section below.
    lanes = min(len(dated), 12)
    height = 34.0 + _LANE * (lanes + 1)
    axes = Axes(report.start, report.end, 0.0, 1.0, height)
    parts: list[Child] = []
    for lane, case in enumerate(dated[:lanes]):
        began = axes.x(case.first.onset if case.first.onset is not None else case.first.time or report.start)
        # An incident that is still open lasts to the end of the period.
        ended = axes.x(case.recovered.time) if case.recovered and case.recovered.time else WIDTH - RIGHT
        y = 8 + lane * _LANE
        parts.append(
            tag("rect", x=began, y=y, width=max(2.0, ended - began), height=_LANE - 6, class_="onset-band bold")
        )
        side = "end" if began > WIDTH * 0.6 else "start"
        parts.append(
            tag(
                "text", case.first.subject, x=began - 4 if side == "end" else began + 4, y=y + 10, class_=f"tick {side}"
            )
        )
    base = 8 + lanes * _LANE + 6
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base, class_="grid"))
    marks = {"promoted": "now", "rolled_back": "bad", "started": "ref", "adopted": "ref"}
    for deployment in report.deployments:
        if deployment.action.value in marks:
            at = axes.x(to_ms(deployment.time))
            parts.append(tag("circle", cx=at, cy=base, r=4.5, class_=f"mark {marks[deployment.action.value]}"))
    parts.append(axes.times(4))
    keys = legend(("incident", "incident, from onset to end"), ("now", "promoted"), ("ref", "canary or adoption"))
    description = f"{plural(len(dated), 'incident')} and {plural(len(report.deployments), 'deployment record')}."
    return tag("div", figure("The period", description, parts, height=height, legend=keys), class_="wide")


def _case(case: Case, report: Report) -> Html:
    first = case.first
    others = len(case.subjects) - 1
    headline = f"{KIND_WORDS.get(first.kind, first.kind)}: {first.subject}"
    if others:
        headline += f" with {plural(others, 'other')}"
    numbers: list[tuple[Child, ...]] = [
        ("Began", _onset(first)),
        ("Seen", moment(first)),
        ("Ended", moment(case.recovered) if case.recovered else "not in this period"),
        ("Level", first.level),
        ("Moved", listing(case.subjects, 12)),
    ]
    if first.effect is not None:
        numbers.append(("Share of the traffic that moved", percent(first.effect)))
    if first.statistic is not None and first.threshold is not None:
        numbers.append(("Evidence / threshold", f"{number(first.statistic, 4)} / {number(first.threshold, 4)}"))
    if harm := _harm(case, report):
        numbers.append(("Harm", harm))
    numbers.append(("Rows looked at", integer(first.rows)))
    plots: list[Child] = []
    for subject in report.subjects:
        if subject.get("incident") == case.id:
            # Under a new version a subject is compared with another reference, and has plots of its own.
            name = subject["name"] + ("" if _alone(subject, report) else f" against {subject['version']}")
            drawn = [distance_figure(subject, case, report, name), evidence_figure(subject, case, report, name)]
            if "cells" in subject:
                drawn.append(distribution_plot(subject["cells"], subject["rows"], name))
            plots += [tag("h4", name), tag("div", drawn, class_="plots")]
    return tag(
        "article",
        tag("h3", headline),
        tag("p", first.reason) if first.reason else None,
        tag("p", tag("strong", "Cause: "), incident_cause(first.cause)) if first.cause else None,
        table(f"Incident {case.id}", ("What", "Value"), numbers, class_="numbers"),
        _segments(report.segments.get(case.id, ())),
        _chain(case, report),
        plots,
        class_="subject",
    )


def _segments(parts: tuple[SegmentPart, ...]) -> Html | None:
    """In which segments the change of an incident's first subject lies, the largest part of each dimension first."""
    if not parts:
        return None
    rows = [
        (
            f"{part.segment}: {plural(part.pooled, 'small segment')} together" if part.pooled else part.segment,
            percent(part.share),
            "new" if math.isnan(part.moved) else f"{percent(part.moved)} ± {percent(part.noise)}",
            integer(part.rows),
            integer(part.before),
        )
        for part in parts[:MAX_LISTED]
    ]
    heads = ("Segment", "Part of the change", "Of its rows moved", "Rows in the incident", "Rows before")
    note = (
        "Against the time before the onset in this report's period. The parts of a dimension add up to 100 %; a "
        f"negative one moved against the others. Segments of fewer than {FEW_ROWS} rows stand together."
    )
    rest = len(parts) - MAX_LISTED
    more = f" And {plural(rest, 'further segment')}, left out here." if rest > 0 else ""
    return tag("div", table("Where it changed", heads, rows, class_="numbers"), tag("p", note + more, class_="quiet"))


def _gaps(gaps: tuple[SegmentGap, ...]) -> Html | None:
    """How far segments lie apart in what the model decided, of matured labels."""
    if not gaps:
        return None
    rows = [
        (
            f"{gap.dimension}: {gap.rate}",
            f"{gap.lowest} {percent(gap.lowest_value)}",
            f"{gap.highest} {percent(gap.highest_value)}",
            percent(gap.gap),
            f"{percent(gap.low)} to {percent(gap.high)}",
            f"{plural(gap.left_out, 'segment')} of few labels" if gap.left_out else "none",
        )
        for gap in gaps
    ]
    heads = ("Rate", "Lowest", "Highest", "Gap", "Gap, 95 %", "Left out")
    return table("How far segments lie apart, of labelled rows", heads, rows, class_="numbers")


def _told_gaps(cases: Sequence[Case]) -> Html | None:
    """The gaps between a segment and the rest of its dimension that were told: each with its numbers and its end."""
    told = [case for case in cases if case.first.cause == Cause.FAIRNESS]
    if not told:
        return None
    rows = [
        (
            moment(case.first),
            case.first.subject.removeprefix("fairness of "),
            case.first.reason,
            "not closed" if case.recovered is None else moment(case.recovered),
        )
        for case in told[:MAX_LISTED]
    ]
    return table("Fairness: gaps beyond what is tolerated", ("Told", "Dimension", "Gap", "Closed"), rows)


def _harm(case: Case, report: Report) -> str:
    """What an incident cost, as the request said it, which comes later, else the page."""
    asked = next((r.evidence.get("harm") for r in report.requests if r.incident == case.id), None)
    words = asked.get("words", "") if isinstance(asked, dict) else ""
    return str(words) or next((finding.harm for finding in reversed(case.findings) if finding.harm), "")


def _alone(subject: SubjectStatus, report: Report) -> bool:
    return sum(other["name"] == subject["name"] for other in report.subjects) == 1


def _chain(case: Case, report: Report) -> Html | None:
    """Return the chain of ids from verdict to deployment, as far as it got."""
    request = next((r for r in report.requests if r.incident == case.id), None)
    if request is None:
        return tag("p", "No retrain was asked for.", class_="quiet") if report.requests or report.deployments else None
    candidate = next((c for c in report.candidates if c.request == request.id), None)
    deployments = [d for d in report.deployments if candidate is not None and d.candidate == candidate.id]
    steps: list[Child] = [_step("verdict", request.verdict, case.first.reason), _request_step(request)]
    if candidate is not None:
        steps += [
            _step("snapshot", candidate.snapshot, "the rows it was trained on"),
            _step("run", candidate.run_id, f"gate {candidate.gate.value}: {candidate.gate_reason}"),
            _step("version", f"{candidate.model}/{candidate.version}", f"against champion {candidate.champion}"),
        ]
    steps += [_step(d.action.value.replace("_", " "), d.id, d.reason) for d in deployments]
    return tag("ol", [tag("li", step) for step in steps], class_="timeline")


def _step(what: str, name: str, why: str) -> list[Child]:
    return [tag("strong", what), " ", tag("code", name), f": {why}" if why else ""]


def _request_step(request: RetrainRequest) -> list[Child]:
    end = f", withdrawn: {request.withdrawn}" if request.withdrawn else ""
    end += f", {request.cure.replace('_', ' ')}: {request.cure_reason}" if request.cure else ""
    return [tag("strong", "request"), " ", tag("code", request.id), ", ", time_tag(to_ms(request.time)), end]


def _deployments(deployments: tuple[Deployment, ...]) -> Html | None:
    if not deployments:
        return None
    rows = [
        (
            time_tag(to_ms(d.time)),
            d.action.value.replace("_", " "),
            d.canary or d.champion,
            percent(d.weight_bp / 10_000),
            d.reason,
        )
        for d in deployments[-MAX_LISTED:]
    ]
    return table("Deployments, oldest first", ("When", "What", "Version", "Weight", "Why"), rows)


def _findings(findings: tuple[ReportedFinding, ...]) -> Html | None:
    if not findings:
        return None
    rows = [
        (
            moment(f),
            f.kind.replace("_", " "),
            f.level,
            f.subject + (f" in {f.segment}" if f.segment else ""),
            f.version,
            percent(f.effect),
            f"{number(f.statistic)} / {number(f.threshold)}" if f.statistic is not None else "–",
            integer(f.rows),
            tag("code", f.id or "–"),
        )
        for f in findings[:MAX_LISTED]
    ]
    heads = ("When", "Kind", "Level", "Subject", "Version", "Moved", "Evidence / threshold", "Rows", "Verdict")
    rest = len(findings) - MAX_LISTED
    more = tag("p", f"And {plural(rest, 'further verdict')}, left out here.", class_="quiet") if rest > 0 else None
    return tag("div", table("Verdicts, oldest first", heads, rows, class_="numbers"), more)
