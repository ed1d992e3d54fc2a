import numpy as np
import pytest

from stationkeeper.monitor.core.charts.chart import measure
from stationkeeper.monitor.core.charts.comparison import compare
from stationkeeper.monitor.core.reference import NumericCells, Reference
from stationkeeper.monitor.core.watch import Watch
from tests.monitor.core.streams import bank, panes, reference_of

RNG = np.random.default_rng(0)
MANY = reference_of(
    {
        **{f"normal {i}": RNG.normal(i, 1 + i, 3_000) for i in range(70)},
        "counts": RNG.integers(0, 5, 3_000).astype(float),
        "one value": np.full(3_000, 7.0),
        "gaps": np.where(RNG.random(3_000) < 0.3, np.nan, RNG.normal(size=3_000)),
        "plan": RNG.choice(np.array(["a", "b", "c"]), 3_000),
        "id": RNG.integers(0, 900, 3_000).astype(str),
    }
)


def window_of(reference: Reference, seed: int) -> list[np.ndarray]:
    """Cells of each subject: of its own law, of another one, all missing, or none at all, in turn."""
    rng, found = np.random.default_rng(seed), []
    for i, subject in enumerate(reference.subjects):
        share = subject.counts / subject.counts.sum()
        counts = rng.multinomial(400, np.roll(share, i % 3))
        if i % 7 == seed % 7:
            counts[:] = 0
            counts[-1] = 30 * (i % 2)
        found.append(counts)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_many_subjects_compared_at_once_have_the_distances_that_each_has_alone(seed: int):
    windows = window_of(MANY, seed)
    together = compare(MANY.subjects, windows)
    assert len(together) == len(MANY.subjects)
    for subject, counts, found in zip(MANY.subjects, windows, together, strict=True):
        alone = measure(subject, counts)
        assert list(found) == list(alone), subject.name
        for name, distance in alone.items():
            # Near the floor a difference of squares is rounding, so the root of it is compared to 1e-9 at most.
            assert found[name].raw == pytest.approx(distance.raw, rel=1e-9, abs=1e-12)
            assert found[name].noise == pytest.approx(distance.noise, rel=1e-9, abs=1e-12)
            assert found[name].value == pytest.approx(distance.value, rel=1e-7, abs=1e-7)
    assert any("ks" in found for found in together)
    assert sum(not found for found in together) > 3


def test_nothing_to_compare_is_no_error():
    assert compare([], []) == []


def test_charts_of_a_watch_are_those_of_its_subjects_one_by_one():
    reference = reference_of(bank(5_000))
    made = Watch(reference)
    for pane in panes(reference, bank(1_000, 1)):
        made.step(pane)
    charts = made.charts()
    assert [chart.subject for chart in charts] == [subject.name for subject in made.reference.watched]
    assert any(isinstance(made.reference.by_name[chart.subject].cells, NumericCells) for chart in charts)
    for chart in charts:
        alone = made.chart(chart.subject)
        assert (chart.rows, chart.quality, chart.evidence) == (alone.rows, alone.quality, alone.evidence)
        assert chart.effect == pytest.approx(alone.effect, abs=1e-9)
        assert chart.distances.keys() == alone.distances.keys()
