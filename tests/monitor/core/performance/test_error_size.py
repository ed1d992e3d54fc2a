"""The errors of a regression are judged: quiet while nothing changes, found when they grow."""

from dataclasses import replace

import numpy as np
import pytest

from stationkeeper.contracts.messages import Verdict, VerdictKind
from stationkeeper.monitor.core.adoption import Timeline
from stationkeeper.monitor.core.finding import PAGE
from stationkeeper.monitor.core.performance import ErrorSize, OutcomePane, labels_in_order
from stationkeeper.monitor.core.performance.error_size import capped_loss, mean_bound
from stationkeeper.monitor.core.reasons import Cause
from stationkeeper.monitor.core.reference import Labels, Task, dump, labels_of, load, profile
from stationkeeper.monitor.core.watch import Watch
from stationkeeper.monitor.profiling import profile as profiled

MINUTE, ROWS = 60_000, 50
ALPHA = 1 / 43_200


def off(rng: np.random.Generator, rows: int, size: float = 1.0) -> Labels:
    """Labelled rows whose errors are ``size`` times a Laplace law's."""
    truth = rng.gamma(2.0, 100.0, rows)
    return labels_of(truth + size * rng.laplace(0.0, 20.0, rows), truth, Task.REGRESSION, 0.5, "1")


def pane(minute: int, labels: Labels) -> OutcomePane:
    return OutcomePane(minute * MINUTE, (minute + 1) * MINUTE, labels.scored, labels.confusion)


def found_after(size: float, minutes: int, seed: int) -> int | None:
    rng = np.random.default_rng(seed)
    made = ErrorSize(off(rng, 5_000), ALPHA)
    for minute in range(minutes):
        if any(one.level == PAGE for one in made.step(pane(minute, off(rng, ROWS, size)), 1.0)):
            return minute
    return None


def test_what_grew_is_found_and_what_did_not_is_quiet():
    assert all(found_after(1.0, 800, seed) is None for seed in range(3))
    grown = [found_after(1.3, 1_500, seed) for seed in range(3)]
    assert all(minute is not None and minute < 120 for minute in grown), grown
    assert found_after(2.0, 60, 0) is not None


def test_the_bound_of_the_reference_by_hand():
    counts = np.array([51, 50])
    assert mean_bound(counts, np.array([0.0, 1.0]), 101, 0.02) == pytest.approx(0.754, abs=1e-3)


def test_a_single_absurd_label_counts_at_most_as_the_cap():
    labels = off(np.random.default_rng(1), 5_000)
    loss = capped_loss(labels.scored)
    assert loss.max() == 1.0
    assert loss[-1] == 1.0
    made = ErrorSize(labels, ALPHA)
    assert not made.step(pane(0, labels_of(np.array([1e300]), np.array([0.0]), Task.REGRESSION, 0.5, "1")), 1.0)


def test_a_profiled_regression_pages_through_the_watch_and_survives_a_restart():
    rng = np.random.default_rng(3)
    truth = rng.gamma(2.0, 100.0, 5_000)
    columns = {"x": rng.normal(size=5_000), "guess": truth + rng.laplace(0.0, 20.0, 5_000), "truth": truth}
    reference = profiled(columns, model="eta", version="1", prediction="guess", label="truth", ordered=True)
    assert reference.task is Task.REGRESSION
    assert reference.labels is not None
    again = load(dump(reference))
    assert again.labels is not None
    assert again.labels.sums.pack() == reference.labels.sums.pack()
    watch, verdicts = Watch(reference), list[Verdict]()
    for minute in range(120):
        made = off(rng, ROWS, 1.5)
        if minute == 5:
            state = watch.state()
            watch = Watch(reference)
            watch.restore(state)
        verdicts += watch.learn(pane(minute, made)).verdicts
    page = next(one for one in verdicts if one.level == "page")
    assert (page.kind, page.cause) == (VerdictKind.PERFORMANCE, Cause.ERROR_SIZE.value)
    assert page.subject.name == "absolute_error"
    assert page.reason.startswith("absolute_error: off by ")


def test_a_regression_profiled_before_is_not_judged_by_what_it_never_was():
    rng = np.random.default_rng(3)
    truth = rng.gamma(2.0, 100.0, 500)
    made = profile({"guess": truth, "truth": truth + 1.0}, model="eta", prediction="guess", label="truth")
    assert made.labels is not None
    before = replace(made, labels=Labels(made.labels.scored, made.labels.confusion))
    assert Watch(made).performance is not None
    assert Watch(before).performance is None


def test_errors_that_come_in_clusters_slow_the_bets():
    rng = np.random.default_rng(5)
    truth = rng.gamma(2.0, 100.0, 6_000)
    bad = np.repeat(rng.lognormal(0.0, 0.8, 60), 100)
    columns = {"guess": truth + bad * rng.laplace(0.0, 20.0, 6_000), "truth": truth}
    reference = profile(columns, model="eta", prediction="guess", label="truth")
    assert reference.labels is not None
    timeline = Timeline.of_rows(6_000, 100)
    learned = labels_in_order(reference.labels, reference, columns["guess"], columns["truth"], timeline)
    assert learned.phi > 3
