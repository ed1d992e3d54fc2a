"""What a notebook or a training script calls: a reference from a frame, and a backtest of a frame against it.

In: frames of pandas, polars or pyarrow, structured arrays, mappings of arrays. Out: ``ReferenceFile`` (`sk.Reference`)
and ``BacktestResult``, which show themselves in a notebook and turn into frames. The cores do the work; here are the
files, frames and pictures that they must not know.
"""

import html
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stationkeeper.contracts.messages import Level
from stationkeeper.contracts.times import UTC_ZONE
from stationkeeper.events import ValueRules
from stationkeeper.monitor.core.budget import parse_budget
from stationkeeper.monitor.core.reference import Reference as Frozen
from stationkeeper.monitor.core.reference import dump, load
from stationkeeper.tables import Frame, Parts, read_frame

if TYPE_CHECKING:
    import polars as pl

    from stationkeeper.monitor.core.power import PowerCard


class ReferenceFile:
    """What a model version was trained on, as bins and counts in kilobytes; never a row.

    ``frozen`` is the value that the monitor works with; its ``digest`` names its content. ``columns`` says in a
    line each what became of the columns of the frame that it was built from.
    """

    def __init__(self, frozen: Frozen, columns: Sequence[str] = ()) -> None:
        self.frozen, self.columns = frozen, tuple(columns)

    @classmethod
    def load(cls, path: str | Path) -> "ReferenceFile":
        """Read a file that ``save`` or ``stationkeeper profile`` wrote; raises ``ValueError`` for another."""
        return cls(load(Path(path).read_bytes()))

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, a few kilobytes a feature; returns the path."""
        target = Path(path)
        target.write_text(dump(self.frozen), encoding="utf-8")
        return target

    @property
    def digest(self) -> str:
        """The name of its content: equal content, equal digest."""
        return self.frozen.digest

    def power(self, *, false_pages: str = "1 per 30 days", rows_per_hour: float | None = None) -> "PowerCard | None":
        """Return the smallest changes that would be found within an hour and a day at this traffic and budget.

        ``rows_per_hour`` defaults to the traffic of the training data; None is returned where nobody knows it.
        """
        from stationkeeper.monitor.core.power import power_card

        known = None if self.frozen.traffic is None else float(self.frozen.traffic.rows_per_hour.mean())
        rate = rows_per_hour or known
        return None if not rate else power_card(self.frozen, parse_budget(false_pages), rows_per_hour=rate)

    def to_frame(self) -> "pl.DataFrame":
        """Return one row a subject: its name, type, kind, bins, rows and share of missing values."""
        import polars as pl

        return pl.DataFrame(
            [
                {
                    "subject": subject.name,
                    "type": subject.type.value,
                    "kind": subject.kind.value,
                    "cells": len(subject.counts),
                    "rows": int(subject.counts.sum()),
                    "missing": float(subject.counts[-1] / max(subject.counts.sum(), 1)),
                }
                for subject in self.frozen.subjects
            ]
        )

    def __repr__(self) -> str:
        frozen = self.frozen
        return f"<Reference of {frozen.model} {frozen.version}: {frozen.rows} rows, {len(frozen.subjects)} subjects>"

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in (*self.columns, *self.frozen.notes))
        return f"<p>{html.escape(repr(self))}</p>{_html(self.to_frame())}<ul>{notes}</ul>"


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """What the daemon would have said of a frame: ``verdicts`` as the verb prints them, and the counts of the pass."""

    verdicts: Sequence[Mapping[str, Any]]
    rows: int
    panes: int
    summary: str

    @property
    def pages(self) -> list[Mapping[str, Any]]:
        """The verdicts that would have paged somebody."""
        return [verdict for verdict in self.verdicts if verdict["level"] == Level.PAGE.value]

    def to_frame(self) -> "pl.DataFrame":
        """Return one row a verdict, in order of time."""
        import polars as pl

        return pl.DataFrame(list(self.verdicts), infer_schema_length=None)

    def __repr__(self) -> str:
        return f"<Backtest of {self.rows} rows: {len(self.pages)} pages, {len(self.verdicts)} verdicts>"

    def _repr_html_(self) -> str:
        shown = ("time", "row", "kind", "subject", "level", "onset_time", "effect", "reason")
        frame = self.to_frame()
        table = _html(frame.select([name for name in shown if name in frame.columns])) if len(frame) else ""
        return f"<p>{html.escape(repr(self))}</p>{table}<pre>{html.escape(self.summary)}</pre>"


def profile(  # noqa: PLR0913 - a training script names each part of its table
    data: Frame,
    *,
    model: str = "model",
    version: str = "1",
    time: str | None = None,
    time_unit: Literal["s", "ms", "us", "ns"] | None = None,
    time_format: str | None = None,
    pane: str | int | None = None,
    features: Collection[str] | None = None,
    prediction: str | None = None,
    label: str | None = None,
    confidence: str | None = None,
    positive: str | None = None,
    weight: str | None = None,
    categorical: Collection[str] = (),
    sensitive: Collection[str] = (),
    ignored: Collection[str] = (),
    text: Collection[str] = (),
    decimal: Literal[".", ","] | None = None,
    na: Collection[str] = ("",),
    threshold: float = 0.5,
    ordered: bool = False,
    timezone: str = UTC_ZONE,
) -> ReferenceFile:
    """Build a reference from training rows; every column that has no other part and can be watched is a feature.

    ``time`` names a column of datetimes, texts or epoch numbers (their unit is found out where ``time_unit`` is None):
    rows in order of time teach dependence, daily movement and traffic, so that drift is judged from the first pane on.
    ``timezone`` is the IANA name of the zone whose clock tells their hours.
    ``prediction`` is the model's score or class, ``label`` what turned out to be true, ``positive`` the label that
    scores are about, ``confidence`` the column with the probability of an answer of several classes, from which
    accuracy is estimated without labels. ``text``, ``decimal`` and ``na`` say how texts are read (docs/files.md).
    ``sensitive`` features keep salted hashes and edges of two digits only. ``columns`` of what is returned names what
    was left out, and why. Raises ``ValueError`` naming the column and what to do. O(rows x features).
    """
    from stationkeeper.profiling.from_table import profile_table

    rules = ValueRules(text=tuple(text), decimal=decimal, na=tuple(na), time_unit=time_unit, time_format=time_format)
    named = None if features is None else tuple(features)
    table = read_frame(data, rules, Parts(time, prediction, label, weight, named))
    frozen, lines = profile_table(
        table,
        pane=pane,
        ordered=ordered,
        model=model,
        version=version,
        features=named,
        confidence=confidence,
        positive=positive,
        weight=weight,
        categorical=categorical,
        sensitive=sensitive,
        ignored=ignored,
        threshold=threshold,
        timezone=timezone,
    )
    return ReferenceFile(frozen, lines)


def backtest(  # noqa: PLR0913 - the options of the verb of the same name
    data: Frame,
    reference: ReferenceFile | str | Path | None = None,
    *,
    reference_rows: int | None = None,
    time: str | None = None,
    time_unit: Literal["s", "ms", "us", "ns"] | None = None,
    time_format: str | None = None,
    prediction: str | None = None,
    label: str | None = None,
    positive: str | None = None,
    label_delay: str | None = None,
    label_maturity: str | None = None,
    adoption: str | None = None,
    features: Iterable[str] | None = None,
    categorical: Iterable[str] = (),
    text: Iterable[str] = (),
    decimal: Literal[".", ","] | None = None,
    na: Iterable[str] = ("",),
    false_alarms_every: str | None = None,
    pane: str | None = None,
    renew: str = "auto",
    effect_floor: float | None = None,
    timezone: str | None = None,
    level: Level | str = Level.PAGE,
    report: str | Path | None = None,
) -> BacktestResult:
    """Judge the rows of a frame as the daemon would have, against ``reference`` or the first ``reference_rows``.

    The options are those of ``stationkeeper backtest``: lengths are durations such as ``1h`` where ``time`` names a
    column, else numbers of rows. ``report`` also writes everything as one HTML file with plots. Raises ``ValueError``
    naming the option or the column.
    """
    from stationkeeper.backtesting.run import replay_settings, run
    from stationkeeper.backtesting.table import table_of

    given = ReferenceFile.load(reference) if isinstance(reference, str | Path) else reference
    rules = ValueRules(text=tuple(text), decimal=decimal, na=tuple(na), time_unit=time_unit, time_format=time_format)
    features = None if features is None else tuple(features)
    table = table_of(read_frame(data, rules, Parts(time, prediction, label, None, features)))
    settings = replay_settings(
        table,
        reference_rows=None if given else reference_rows,
        label_delay=label_delay,
        label_maturity=label_maturity,
        adoption=adoption,
        features=features,
        categorical=categorical,
        every=false_alarms_every,
        pane=pane,
        renew=renew,
        effect_floor=effect_floor,
        positive=positive,
        timezone=timezone or (UTC_ZONE if given is None else given.frozen.timezone),
    )
    summary = io.StringIO()
    found = run(
        table,
        settings,
        reference=None if given is None else given.frozen,
        level=Level(level),
        err=summary,
        course=report is not None,
    )
    if found.course is not None and report is not None:
        from stationkeeper.report.gather import from_course, write

        command = "sk.backtest(frame, reference)"
        write(from_course(found.course, found.lines, f"a backtest of {len(table):,} rows", command), Path(report))
        summary.write(f"wrote {report}\n")
    return BacktestResult(found.lines, len(table), found.replay.summary.panes, summary.getvalue().strip())


def _html(frame: "pl.DataFrame") -> str:
    """A table that needs no style sheet: notebooks bring their own."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in frame.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_text(value))}</td>" for value in row) + "</tr>"
        for row in frame.iter_rows()
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
