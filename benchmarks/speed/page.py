"""docs/performance.md: everything between its two markers is written from the last run."""

from typing import Any

from benchmarks.latency.__main__ import loads_table
from benchmarks.measure.plot import bars
from benchmarks.measure.results import ROOT, table
from benchmarks.speed.sizing import CLIENTS, Costs, cluster_lines, costs_of, sizing_rows
from benchmarks.throughput.__main__ import HEADER, rows_of

PAGE = ROOT / "docs" / "performance.md"
FIGURE = ROOT / "docs" / "figures" / "throughput.svg"
BEGIN, END = "<!-- written by make bench: begin -->", "<!-- written by make bench: end -->"
PARTS = ("throughput", "endtoend", "growth", "latency", "footprint", "restore", "scrape", "replay")


def write(figures: dict[str, Any]) -> None:
    """Write the figure and the part of the page between the markers."""
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has lost its markers {BEGIN} and {END}")
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    FIGURE.write_text(chart(figures["throughput"]), encoding="utf-8")
    PAGE.write_text(f"{before}{BEGIN}\n\n{body(figures)}\n{END}{after}", encoding="utf-8")


def chart(found: dict[str, Any]) -> str:
    """Return the bar chart of the rates in process."""
    rows = [
        (f"Stationkeeper: {name}", rate, "ours") for name, rate in found["rates"].items() if name == "decode and tally"
    ]
    rows += [
        (name if name.startswith("polars") else f"limit: {name}", rate, "limit")
        for name, rate in found["rates"].items()
        if name != "decode and tally"
    ]
    rows += [(f"{p['peer']}: {p['way']}", p["rate"], "peer") for p in found["peers"] if p["rate"]]
    return bars("Events a second of one core, the same events for all", sorted(rows, key=lambda row: -row[1]))


def bar_rows(figures: dict[str, Any]) -> list[list[object]]:
    """Return every promised ratio with what the run found."""
    inside, kafka, growth = figures["throughput"]["bars"], figures["endtoend"]["bars"], figures["growth"]["bars"]
    rest, late = figures["footprint"]["bars"], figures["latency"]["bar"]
    fastest = "decode and tally against the fastest peer that computes a distance for every feature"
    rows = [
        ("decode and tally against decoding alone", inside["decode_only"], "≥", 0.8),
        (fastest, inside.get("fastest_distance"), "≥", 2.0),
        ("the same, against peers that compare the numbers only", inside.get("fastest_partial"), "≥", 2.0),
        ("decode and tally against Evidently's drift preset", inside.get("evidently"), "≥", 40.0),
        ("the same, with its statistic set to PSI", inside.get("evidently_psi"), "≥", 40.0),
        *(
            (f"exactly once against {c} reading, then decoding", kafka[f"{c} against series"], "≥", 0.75)
            for c in CLIENTS
        ),
        *(
            (
                f"exactly once, {c}, against quixstreams' window with {what}",
                kafka.get(f"{c} against quixstreams {way}"),
                "≥",
                5.0,
            )
            for c in CLIENTS
            for way, what in (("histograms", "histograms"), ("window", "one mean"))
        ),
        ("R² of the cost of an event against its columns", growth["columns R²"], ">", 0.98),
        ("cost of an event with 1 000 segments over one", growth["segments, cost of most over one"], "≤", 1.25),
        ("event to verdict beyond the closing, p99 at 50 % load, s", late, "<", 2.0),
        ("RSS of the daemon at rest, MiB", rest["rss_mib"], "<", 150.0),
        ("start to ready, s", rest["ready_s"], "<", 3.0),
        *(
            (f"50 models of 200 features restored whole, {one['strata']} hours, s of CPU", one["cpu_s"], "<", 5.0)
            for one in figures["restore"]["restores"]
            if one["world"] == "memory"
        ),
    ]
    return [[name, _exact(value), f"{sign} {bar:g}", _met(value, sign, bar)] for name, value, sign, bar in rows]


def _exact(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if value < 10 else f"{value:,.0f}"


def _met(value: float | None, sign: str, bar: float) -> str:
    if value is None:
        return "not measured"
    return "yes" if (value >= bar if sign in "≥>" else value <= bar) else "no"


def body(figures: dict[str, Any]) -> str:
    """Return the sections of a run as Markdown."""
    promised = table(("ratio or figure", "found", "bar", "met"), bar_rows(figures))
    sections = [
        _machine({part: found["machine"] for part, found in figures.items()}),
        f"## What was promised, and what the run found\n\n{promised}",
        _in_process(figures["throughput"]),
        _from_a_broker(figures["endtoend"]),
        _growth(figures["growth"]),
        _latency(figures["latency"]),
        _rest(figures["footprint"]),
        _restore(figures["restore"]),
        _scrape_and_backtest(figures["scrape"], figures["replay"]),
        _deployment(costs_of(figures)),
    ]
    return "\n\n".join(sections) + "\n"


def _machine(machines: dict[str, dict[str, Any]]) -> str:
    machine = machines["throughput"]
    taken = ", ".join(f"{part} {one['taken']} (load {one['load']})" for part, one in machines.items())
    return (
        f"Taken on {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}. Each part ended at, with the load average of the minute, its own work "
        f"included: {taken}."
    )


def _in_process(found: dict[str, Any]) -> str:
    rows = table(HEADER, rows_of(found["rates"], found["ratios"], found["peers"]))
    return (
        f"## In process\n\n`make bench ARGS=throughput`: {found['events']:,} events of {found['bytes']:.0f} bytes with "
        f"twelve numbers, three categories and a score, batches of {found['batch']:,}, one core, processor time.\n\n"
        f"![Events a second of one core](figures/throughput.svg)\n\n{rows}"
    )


def _from_a_broker(found: dict[str, Any]) -> str:
    rows = table(("client", "what", "events/s", "processor µs/event"), found["rows"])
    return (
        f"## From a broker\n\n`make bench ARGS=endtoend`: {found['events']:,} events from one partition, uncompressed; "
        f"the broker on the other core; wall time.\n\n{rows}"
    )


def _growth(found: dict[str, Any]) -> str:
    rows = [
        [p["kind"], p["count"], p["rate"], 1e6 / p["rate"], p["bytes"], p["batch"], p["rss_mib"]]
        for p in found["points"]
    ]
    header = ("what grows", "to", "events/s", "µs/event", "bytes/event", "events/batch", "RSS MiB")
    return (
        "## Growth\n\n`make bench ARGS=growth`: each point in a process of its own; a batch is what one fetch of 4 MiB "
        f"holds, at most 10 000 events.\n\n{table(header, rows)}"
    )


def _latency(found: dict[str, Any]) -> str:
    return (
        "## From event to verdict\n\n`make bench ARGS=latency`: the daemon with all three roles on one core against a "
        f"real broker; full load is {found['capacity']:,.0f} events/s. Panes of {found['pane_ms'] / 1000:g} s and a "
        f"lateness of {found['lateness_ms'] / 1000:g} s, so that a run closes enough of them; with panes of a "
        f"minute and a lateness of two the waiting is 2 to 3 minutes, evenly, and the work is "
        f"the same.\n\n{loads_table(found['loads'])}"
    )


def _rest(found: dict[str, Any]) -> str:
    starts = [[one["models"], one["ready_s"], one["rss_mib"], one["idle_share"] * 100] for one in found["starts"]]
    judging = [
        [name, *(one[field] for field in ("features", "watches", "pane_ms", "told_ms", "feature_kb"))]
        for name, one in found["judging"].items()
    ]
    heavy = ", ".join(found["heavy"]) or "none"
    return (
        "## At rest, and the judge\n\n`make bench ARGS=footprint`: `stationkeeper monitor` as a process of its own "
        f"against a real broker. Heavy libraries imported on its path: {heavy}.\n\n"
        + table(("models", "start to ready s", "RSS at rest MiB", "core at rest %"), starts)
        + "\n\n"
        + table(("judge", "subjects", "watches", "ms a pane and watch", "and to tell", "kB a subject"), judging)
        + "\n\nTo tell is to write what changed of a watch's state, and to draw its charts. Memory is read after four "
        "hours of panes, when nothing grows any more."
    )


def _restore(found: dict[str, Any]) -> str:
    fields = ("strata", "state_mb", "references_cpu_s", "restored_cpu_s", "records", "built_cpu_s", "cpu_s")
    rows = [[one[field] for field in fields] for one in found["restores"]]
    header = ("hours", "state MB", "references s", "state s", "records read again", "and tables s", "whole s")
    return (
        f"## A judge's restart\n\n`make bench ARGS=restore`: {found['models']} models of {found['features']} features "
        "after an hour of panes, from a log in memory: the references are read, the state, and the panes since the "
        "last checkpoint; what is judged first also builds every detector's tables. With 168 hours the reference "
        "knows its cells by hour of the week. Seconds are processor time, which a busy machine moves less than the "
        f"clock.\n\n{table(header, rows)}"
    )


def _scrape_and_backtest(scrape: dict[str, Any], replay: dict[str, Any]) -> str:
    return (
        "## Scrape and backtest\n\n"
        f"`make bench ARGS=scrape`: {scrape['series']:,} series ({scrape['bytes'] / 2**20:.1f} MiB) are answered in "
        f"{scrape['p50'] * 1e3:.0f} ms (p50) and {scrape['p99'] * 1e3:.0f} ms (p99).\n\n"
        f"`make bench ARGS=replay`: a backtest of {replay['rows']:,} rows of Parquet takes {replay['whole']:.1f} s as "
        f"a whole command, {replay['rate']:,.0f} rows/s; {replay['judging_rate']:,} rows/s while it judges "
        f"{replay['panes']:,} panes."
    )


def _deployment(costs: Costs) -> str:
    header = ("events/s", "features", *(f"cores, {client}" for client in CLIENTS))
    return (
        "## What a deployment needs\n\nCores for the tally, each kept busy to 70 %, computed from the costs above (an "
        f"event from a broker, and {costs.column_us:.2f} µs for each further column):\n\n"
        + table(header, sizing_rows(costs))
        + "\n\n## A million events a second\n\nComputed, not run:\n\n"
        + "\n".join(cluster_lines(costs))
    )
