"""A category that fills far more or far fewer cells than its reference is said once, and nothing of a steady one."""

import numpy as np
import pytest

from stationkeeper.contracts.messages import Level, Verdict
from stationkeeper.monitor.core.quality.cardinality import WINDOW_ROWS, Cardinality, unusual
from stationkeeper.monitor.core.reasons import Check
from stationkeeper.monitor.core.watch import Watch
from tests.monitor.core.streams import SETTINGS, bank, judge, panes, reference_of

TWENTY = np.full(20, 500)


def test_expected_cells_by_hand():
    # 1000 rows miss a cell of 1/20 with chance .95^1000: all twenty are expected, half of them is far off.
    assert unusual(TWENTY, 20, 1_000) is None
    assert unusual(TWENTY, 11, 1_000) is None
    assert unusual(TWENTY, 8, 1_000) == pytest.approx(20.0, abs=1e-6)


def test_dependent_rows_are_fewer_rows():
    assert unusual(TWENTY, 8, 200) is not None
    assert unusual(TWENTY, 8, 200, phi=10.0) is None


def test_many_more_cells_than_the_reference_are_far_off():
    reference = np.concatenate([TWENTY, np.zeros(64, np.int64)])
    assert unusual(reference, 30, 1_000) is None
    assert unusual(reference, 80, 1_000) is not None


@pytest.mark.parametrize("rows", [WINDOW_ROWS, 1_337, 60_000])
def test_what_is_passed_over_without_a_look_is_never_unusual(rows: int):
    rng = np.random.default_rng(rows)
    skewed = np.array([f"v{k}" for k in np.minimum(rng.zipf(1.4, 4_000), 500)], object)
    reference = reference_of({**open_set(4_000, 1), "shop": skewed, "plan": rng.choice(np.array(["a", "b"]), 4_000)})
    made, passed = Cardinality(reference), 0
    for k, subject in enumerate(made.subjects.tolist()):
        counts = reference.subjects[subject].counts[:-1]
        for cells in range(len(counts) + 1):
            if made._few[k] < cells < made._many[k]:
                passed += 1
                assert unusual(counts, cells, rows) is None
    assert passed > 60


def open_set(rows: int, seed: int, values: int = 3_000) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    data = bank(rows, seed)
    data["merchant"] = np.array([f"m{k}" for k in rng.integers(0, values, rows)], object)
    return data


def cardinality(said: list[Verdict]) -> list[Verdict]:
    return [verdict for verdict in said if verdict.subject.check == Check.CARDINALITY]


def test_an_open_set_that_shrinks_is_said_once():
    reference = reference_of(open_set(8_000, 1))
    assert reference.by_name["merchant"].high_cardinality
    made = Watch(reference, settings=SETTINGS)
    assert cardinality(judge(made, open_set(6_000, 2))) == []
    rules, levels = made.quality.rules, set()
    for pane in panes(reference, open_set(6_000, 3, values=15), start=6_000):
        levels |= {(f.check, f.level) for f in rules.step(pane) if f.check is Check.CARDINALITY}
    assert levels == {(Check.CARDINALITY, 2)}


def test_a_steady_category_with_rare_values_says_nothing_for_long():
    rng = np.random.default_rng(4)
    heavy = np.array([f"v{k}" for k in np.minimum(rng.zipf(1.3, 60_000), 10_000)], object)
    reference = reference_of({"shop": heavy[:5_000]})
    made = Watch(reference, settings=SETTINGS)
    said = judge(made, {"shop": heavy[5_000:]})
    assert cardinality(said) == []


def test_a_rule_restored_in_the_middle_says_the_same():
    reference = reference_of(open_set(8_000, 1))
    every = list(panes(reference, open_set(4_000, 5, values=15)))
    whole, first, second = (Watch(reference, settings=SETTINGS) for _ in range(3))
    expected = [verdict for pane in every for verdict in whole.step(pane).verdicts]
    said = [verdict for pane in every[:27] for verdict in first.step(pane).verdicts]
    second.restore(first.state())
    said += [verdict for pane in every[27:] for verdict in second.step(pane).verdicts]
    assert said == expected
    assert Level.PAGE in {verdict.level for verdict in expected}
