"""Files that a generator makes of one unchanged world, through init, profile, check and backtest as a person runs them.

Half of them are read under the configuration that init wrote, and under it the rows to come are checked as events.

``make generated`` tries a thousand.
"""

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from stationkeeper.check.baselines import KnownReferences
from stationkeeper.check.finding import SetupCheck
from stationkeeper.check.inputs import check_inputs
from stationkeeper.commands.backtest import backtest
from stationkeeper.commands.data import init
from stationkeeper.commands.profile import profile
from stationkeeper.config import load as load_config
from stationkeeper.monitor.core.reference import NumericCells, Reference, load
from stationkeeper.streams.memory.log import MemoryLog
from stationkeeper.streams.memory.ports import MemoryReader

# In the suite as many as a person waits for; half would leave out some pairs of form and type on most runs.
FILES = int(os.environ.get("STATIONKEEPER_FILES", "8"))
ROWS = 700
KNOWN = 400
MAY_1 = np.datetime64("2026-05-01", "ms")
INIT, PROFILE, BACKTEST = typer.Typer(), typer.Typer(), typer.Typer()
INIT.command()(init)
PROFILE.command()(profile)
BACKTEST.command()(backtest)

NAMES = [
    "amount",
    "größe",
    'size 15"',
    "a, b",
    "x.y",
    "income\n(EUR)",
    "名前",
    "back\\slash",
    "'",
    "#1",
    "Yes",
    "Ω",
    "id",
]
NUMBERS = {"float", "int", "decimal", "currency", "percent", "comma", "thousands", "error", "huge float"}
KINDS = [
    *sorted(NUMBERS),
    *("truth", "01", "category", "na category", "zip", "prose", "identifier", "big", "date", "one", "none", "yes"),
]
TIMES = ["iso", "naive", "s", "ms", "us", "ns", "us slash", "eu dot", "us ampm", "none"]


@dataclass(frozen=True)
class Made:
    """A file's form and its columns by name: (kind, share of missing cells)."""

    seed: int
    form: str
    encoding: str
    separator: str
    time: str
    labels: tuple[str, str] | None
    gap: str
    columns: dict[str, tuple[str, float]]
    configured: bool


@st.composite
def files(draw: st.DrawFn) -> Made:
    form = draw(st.sampled_from(["csv", "csv", "parquet", "jsonl"]))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    columns = {name: (draw(st.sampled_from(KINDS)), draw(st.sampled_from([0.0, 0.0, 0.1]))) for name in names}
    return Made(
        draw(st.integers(0, 2**32 - 1)),
        form,
        draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])),
        draw(st.sampled_from([",", ";", "\t", "|"])),
        draw(st.sampled_from(TIMES)),
        draw(st.sampled_from([None, ("0", "1"), ("False", "True"), ("legit", "fraud"), ("good", "bad"), ("1", "2")])),
        draw(st.sampled_from(["", "NA", "NaN", "None", "?", "null"])),
        columns,
        draw(st.booleans()),
    )


def cells_of(kind: str, rng: np.random.Generator) -> list[Any]:
    """Values of one kind, the same world from the first row to the last; text where the kind is one of text."""
    x = rng.lognormal(3.0, 1.0, ROWS)
    made: dict[str, Callable[[], Iterable[Any]]] = {
        "float": np.round(x, 2).tolist,
        "huge float": (x * 1e12).tolist,
        "int": rng.poisson(20, ROWS).tolist,
        "decimal": lambda: (Decimal(f"{value:.2f}") for value in x),
        "currency": lambda: (f"${value:,.2f}" for value in x),
        "percent": lambda: (f"{value:.1f}%" for value in x),
        "comma": lambda: (f"{value:.2f}".replace(".", ",") for value in x),
        "thousands": lambda: (f"{value * 1000:,.2f}" for value in x),
        "error": lambda: ("error" if row % 200 == 7 else round(value, 2) for row, value in enumerate(x.tolist())),
        "truth": (x > 20).tolist,
        "01": (x > 20).astype(int).tolist,
        "yes": np.where(x > 20, "Yes", "No").tolist,
        "category": rng.choice(["a", "b", "ü", 'q"', "x,y;z"], ROWS, p=[0.5, 0.2, 0.1, 0.1, 0.1]).tolist,
        "na category": rng.choice(["DE", "NA", "FR"], ROWS).tolist,
        "zip": rng.choice(["80331", "09111", "10115", "01067"], ROWS).tolist,
        "prose": lambda: (f"row {row} says {value:.3f}" for row, value in enumerate(x)),
        "identifier": lambda: (f"{int(value):012x}" for value in rng.integers(0, 2**48, ROWS)),
        "big": lambda: (10**18 + int(value) for value in rng.integers(0, 10**17, ROWS)),
        "date": lambda: (str(np.datetime64("2020-01-01") + int(day)) for day in rng.integers(0, 900, ROWS)),
        "one": lambda: ["same"] * ROWS,
        "none": lambda: [None] * ROWS,
    }
    return [*made[kind]()]


def times_of(form: str) -> list[Any]:
    moments = MAY_1 + np.arange(ROWS) * 1_000_000
    seconds = (moments.astype(np.int64) / 1_000).astype(np.int64)
    if form in {"s", "ms", "us", "ns"}:
        return [*(seconds * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[form]).tolist()]
    form = {
        "iso": "%Y-%m-%dT%H:%M:%SZ",
        "naive": "%Y-%m-%d %H:%M:%S",
        "us slash": "%m/%d/%Y %H:%M:%S",
        "eu dot": "%d.%m.%Y %H:%M:%S",
        "us ampm": "%m/%d/%Y %I:%M:%S %p",
    }[form]
    return [*pl.Series(moments).dt.strftime(form)]


def table_of(made: Made) -> dict[str, list[Any]]:
    rng = np.random.default_rng(made.seed)
    table: dict[str, list[Any]] = {} if made.time == "none" else {"time": times_of(made.time)}
    score = rng.beta(1, 3, ROWS).round(4)
    table["score"] = score.tolist()
    if made.labels is not None:
        table["label"] = np.where(rng.random(ROWS) < score, made.labels[1], made.labels[0]).tolist()
    for name, (kind, missing) in made.columns.items():
        gone = rng.random(ROWS) < missing
        table[name] = [None if off else cell for off, cell in zip(gone, cells_of(kind, rng), strict=True)]
    return table


def write(made: Made, table: dict[str, list[Any]], path: Path) -> Path:
    if made.form == "parquet":
        target = path.with_suffix(".PARQUET")
        columns = []
        for name, cells in table.items():
            try:
                columns.append(pl.Series(name, cells))
            except (TypeError, pl.exceptions.PolarsError):
                columns.append(pl.Series(name, [None if cell is None else str(cell) for cell in cells]))
        pl.DataFrame(columns).write_parquet(target)
        return target
    if made.form == "jsonl":
        target = path.with_suffix(".jsonl")
        rows = zip(*table.values(), strict=True)
        lines = (json.dumps(dict(zip(table, row, strict=True)), ensure_ascii=False, default=float) for row in rows)
        target.write_text("\n".join(lines), encoding="utf-8")
        return target
    target = path.with_suffix(".csv")

    def cell(value: Any) -> str:
        text = made.gap if value is None else str(value)
        return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in f'{made.separator}"\n\r') else text

    records = [tuple(table), *zip(*table.values(), strict=True)]
    text = "".join(made.separator.join(map(cell, row)) + "\n" for row in records)
    target.write_bytes(text.encode(made.encoding))
    return target


def half(table: dict[str, list[Any]], first: int, last: int) -> dict[str, list[Any]]:
    return {name: cells[first:last] for name, cells in table.items()}


def checked(made: Made, table: dict[str, list[Any]], config: Path, reference: Reference) -> list[SetupCheck]:
    """What ``check`` says of these rows where a service sends them as events, each value written as in the file."""
    now = int(time.time()) - 3_600
    gap = made.gap if made.form == "csv" else None
    rows = zip(*(table[name] for name in made.columns), table["score"], strict=True)
    log = MemoryLog()
    settings = load_config(config)
    topic = settings.models["m"].predictions.topic
    log.create(topic)
    for number, (*cells, score) in enumerate(rows):
        features = {name: gap if cell is None else cell for name, cell in zip(made.columns, cells, strict=True)}
        facts = {"kind": "prediction", "event_id": f"e{number}", "time": (now + number) * 1_000, "model": "m"}
        event = {**facts, "version": reference.version, "features": features, "prediction": score}
        log.produce(topic, [json.dumps(event, default=float).encode()])
    known = KnownReferences({"m": {reference.version: reference}}, {})
    return list(check_inputs(settings, MemoryReader(log), known, 0))


@settings(
    max_examples=FILES,
    deadline=None,
    # A file is small and says itself what it is: to make it smaller yet takes minutes.
    phases=[Phase.generate],
    derandomize="STATIONKEEPER_FILES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)
@given(made=files())
def test_an_unchanged_world_is_read_and_said_and_never_pages(
    made: Made, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("made")
    table = table_of(made)
    past = write(made, half(table, 0, KNOWN), folder / "past")
    now = write(made, half(table, KNOWN, ROWS), folder / "now")
    parts = [*(["--time", "time"] if made.time != "none" else []), "--prediction", "score"]
    parts += ["--label", "label"] if made.labels is not None else []
    rules = ["--na", f'"{made.gap}"'] if made.form == "csv" and made.gap else []
    run = CliRunner()
    begun = run.invoke(INIT, [str(past), "--model", "m", *rules, "-o", str(folder / "first.yaml")])
    note(f"{begun.output[-3000:]}")
    assert begun.exit_code == 0, begun.exception
    if made.configured:
        rules += ["--model", "m", "--config", str(folder / "first.yaml")]
    reference = folder / "reference.json"
    profiled = run.invoke(PROFILE, [str(past), *parts, *rules, "-o", str(reference)])
    note(f"{profiled.output[-3000:]}")
    assert profiled.exception is None or isinstance(profiled.exception, SystemExit)
    if profiled.exit_code:
        # A refusal asks one thing, which two classes that nobody knows and scores do not tell are.
        assert "--positive" in profiled.output
        return
    frozen = load(reference.read_bytes())
    lines = [line.strip() for line in profiled.stderr.splitlines() if line.startswith("  ")]
    shown = {name: repr(name)[1:-1] if "\n" in name else name for name in made.columns}
    said = {name: next(line for line in lines if line.startswith(f"{text}: ")) for name, text in shown.items()}
    for name, (kind, _) in made.columns.items():
        subject = frozen.by_name.get(name)
        assert (subject is None) == ("left out: " in said[name]), said[name]
        if subject is not None and kind in NUMBERS:
            assert isinstance(subject.cells, NumericCells), said[name]
        if subject is not None:
            assert kind not in {"prose", "identifier", "big", "date", "none"}, said[name]
    # JSON lines with ids init takes for a topic's records, which is another chain (test_record_forms): those that are
    # named so, or of another text in every row, beside a time that an event can have, as which 19 digits may count.
    whole = {kind for kind, gaps in made.columns.values() if not gaps}
    times = made.time in {"iso", "s", "ms", "us", "ns"} or "big" in whole
    ids = "id" in made.columns or ("identifier" in whole and times)
    records = "records are read as written" in begun.output
    assert not records or (made.form == "jsonl" and ids), begun.output
    if made.configured and not records:
        found = checked(made, half(table, KNOWN, ROWS), folder / "first.yaml", frozen)
        # What profile left out by name is named here too; no other difference is there to see.
        wrong = [line for one in found for line in one.lines if " not watched, " not in line]
        assert len(found) == 2, found
        assert wrong == [], found
        assert all(one.outcome == "ok" or one.lines for one in found), found
    # Once in a hundred years: what pages in these days pages for a reason, and there is none.
    budget = "100000000" if made.time == "none" else "36500d"
    options = [*parts, *rules, "--reference", str(reference), "--renew", "never", "--false-alarms-every", budget]
    judged = run.invoke(BACKTEST, [str(now), *options])
    note(f"{judged.output[-3000:]}")
    assert judged.exit_code == 0, judged.exception
    assert not [line for line in judged.stdout.splitlines() if line.startswith("{")]
