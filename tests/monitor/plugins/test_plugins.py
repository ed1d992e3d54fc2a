import json

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from stationkeeper.monitor.plugins import registry
from stationkeeper.monitor.plugins import statistics as st
from stationkeeper.monitor.plugins.port import Alarm, Detector, Watched
from stationkeeper.monitor.plugins.registry import load, names
from stationkeeper.monitor.plugins.rules import RULES, FixedRule
from tests.monitor.plugins.false_alarms import false_alarms

CELLS = 100
VALUES = stats.norm.ppf((np.arange(CELLS) + 0.5) / CELLS)
NUMBER = Watched("amount", np.append(np.full(CELLS, 100), 0), VALUES)
CATEGORY = Watched("country", np.array([5000, 3000, 1500, 500, 0]))


def _sample(seed=0, n=500):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(12), 2)
    window, reference = (rng.multinomial(k, x).astype(np.float64) + 1 for k, x in ((n, q), (4 * n, p)))
    return st.CountPair(window, reference, np.sort(rng.standard_normal(12)))


def test_statistics_equal_scipy():
    s = _sample()
    assert st.jensen_shannon_distance(s) == pytest.approx(jensenshannon(s.p, s.q))
    assert st.jensen_shannon_distance_2(s) == pytest.approx(jensenshannon(s.p, s.q, base=2))
    assert st.jensen_shannon_divergence_2(s) == pytest.approx(jensenshannon(s.p, s.q, base=2) ** 2)
    assert st.kl_divergence(s) == pytest.approx(stats.entropy(s.q, s.p))
    assert st.psi(s) == pytest.approx(stats.entropy(s.q, s.p) + stats.entropy(s.p, s.q))
    spread = np.sqrt(np.cov(s.values, aweights=s.p, bias=True))
    expected = stats.wasserstein_distance(s.values, s.values, s.q, s.p) / spread
    assert st.wasserstein_normed(s) == pytest.approx(expected)
    assert st.chi_square_p(s) == pytest.approx(stats.chisquare(s.window, s.p * s.window.sum()).pvalue)
    x, y = np.repeat(s.values, s.window.astype(int)), np.repeat(s.values, s.reference.astype(int))
    assert st.kolmogorov_smirnov_p(s) == pytest.approx(stats.ks_2samp(x, y, method="asymp").pvalue, rel=0.2, abs=1e-6)


def test_statistics_by_hand():
    s = st.CountPair(np.array([70.0, 30.0]), np.array([500.0, 500.0]))
    assert st.l_infinity(s) == pytest.approx(0.2)
    assert st.total_variation(s) == pytest.approx(0.2)
    # 1.8 sqrt(1100 / 100000) = .1888.
    assert st.l_infinity_robust(s) == pytest.approx(0.2 - 0.18879, abs=1e-4)
    empty = st.CountPair(np.array([100.0, 0.0]), np.array([50.0, 50.0]))
    assert st.psi(empty) == pytest.approx(0.5 * np.log(2) + (1e-4 - 0.5) * np.log(1e-4 / 0.5))


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_rule_sees_a_gross_change_and_goes_on_after_a_restart(name):
    subject = NUMBER if RULES[name].numeric else CATEGORY
    changed = np.zeros(subject.reference.size, np.int64)
    changed[-2] = 700
    detector, resumed = load(name, subject), load(name, subject)
    assert isinstance(detector, Detector)
    assert detector.step(changed, 0) is None
    resumed.restore(json.loads(json.dumps(detector.state())))
    alarm = resumed.step(changed, 1)
    assert isinstance(alarm, Alarm)
    assert alarm == detector.step(changed, 1)
    assert alarm.rows == 1400
    assert subject.name in alarm.reason
    assert resumed.step(changed, 2) is None


def test_learned_thresholds_come_from_the_reference_and_repeat():
    one, two = load("nannyml.jensen_shannon", NUMBER), load("nannyml.jensen_shannon", NUMBER)
    assert isinstance(one, FixedRule)
    assert isinstance(two, FixedRule)
    assert one.threshold == two.threshold
    assert 0 < one.threshold < 0.1


def test_false_alarms_repeat_the_known_table():
    # KS at .05 on hourly windows: 36 a month for raw values, fewer on cells, which tie; decile PSI .2: never.
    many = false_alarms("evidently.ks", NUMBER, {"window": 1000}, rows_per_day=24_000)
    assert 12 < many.a_month < 45
    assert many.low < many.a_month < many.high
    assert many == false_alarms("evidently.ks", NUMBER, {"window": 1000}, rows_per_day=24_000)
    assert "outside the false-page budget" in many.warning()
    few = false_alarms("psi", NUMBER, {"window": 500}, rows_per_day=24_000)
    assert few.a_month == 0
    assert few.high > 0
    with pytest.raises(ValueError, match="rows a day"):
        false_alarms("psi", NUMBER, {}, 0)


@pytest.mark.parametrize("subject", [NUMBER, CATEGORY], ids=["number", "category"])
def test_river_finds_a_shift_and_goes_on_after_a_restart(subject):
    pytest.importorskip("river")
    rng = np.random.default_rng(1)
    p = subject.reference[:-1] / subject.reference[:-1].sum()
    changed = p[::-1] ** 2 if subject is CATEGORY else np.where(np.arange(p.size) < 60, 0, p)
    panes = [np.append(rng.multinomial(60, p if t < 20 else changed / changed.sum()), 0) for t in range(60)]
    detector, resumed = load("river.ADWIN", subject, {"delta": 0.002}), load("river.ADWIN", subject, {"delta": 0.002})
    alarms = [t for t, pane in enumerate(panes) if detector.step(pane, t) is not None]
    assert alarms
    assert 20 <= alarms[0] < 35
    first = load("river.ADWIN", subject, {"delta": 0.002})
    for t in range(15):
        first.step(panes[t], t)
    resumed.restore(json.loads(json.dumps(first.state())))
    assert alarms[0] == next(t for t in range(15, 60) if resumed.step(panes[t], t) is not None)
    assert false_alarms("river.ADWIN", subject, {"delta": 0.002}, 1000).a_month < 30


def test_missing_values_alone_are_no_pane_for_river():
    pytest.importorskip("river")
    assert load("river.PageHinkley", NUMBER).step(np.append(np.zeros(CELLS, int), 50), 0) is None


@pytest.mark.parametrize(
    ("name", "subject", "options", "message"),
    [
        ("evidently.pse", NUMBER, {}, "evidently.psi"),
        ("evidently.ks", CATEGORY, {}, "categorical"),
        ("vertex.l_infinity", NUMBER, {}, "numeric"),
        ("psi", NUMBER, {"windows": 5}, "'windows'"),
        ("psi", NUMBER, {"window": 0}, "at least 1 row"),
        ("river.ADWIN", NUMBER, {"sigma": 5}, "sigma"),
    ],
)
def test_a_bad_plugin_is_refused_with_what_would_be_right(name, subject, options, message):
    if name.startswith("river"):
        pytest.importorskip("river")
    with pytest.raises(ValueError, match=message):
        load(name, subject, options)


def test_bad_subjects_are_refused():
    with pytest.raises(ValueError, match="reference counts"):
        Watched("x", np.zeros(3, int))
    with pytest.raises(ValueError, match="as many values"):
        Watched("x", np.array([1, 2, 3]), np.zeros(3))
    with pytest.raises(ValueError, match="only missing"):
        load("psi", Watched("x", np.array([0, 0, 9])))
    with pytest.raises(ValueError, match="learn from"):
        load("nannyml.l_infinity", Watched("x", np.array([2, 3, 0])))


def test_entry_points_of_third_parties_are_found(monkeypatch):
    monkeypatch.setattr(registry, "plugin_names", lambda _group: ("acme.always",))
    make = lambda subject, options: FixedRule("psi", subject, options)  # noqa: E731 - a factory in one line
    monkeypatch.setattr(registry, "load_plugin", lambda _group, _name: make)
    assert "acme.always" in names()
    assert load("acme.always", NUMBER, {"window": 7}).rule == "psi"
