from stationkeeper.contracts.messages import SubjectState
from stationkeeper.monitor.core.reasons import Unknown
from stationkeeper.monitor.core.watch import Watch
from tests.monitor.core.streams import SETTINGS, bank, judge, pages, reference_of

REFERENCE = reference_of(bank(5_000))


def test_every_chart_is_the_one_of_its_subject():
    watch = Watch(REFERENCE, settings=SETTINGS)
    assert {chart.unknown for chart in watch.charts()} == {Unknown.NO_ROWS}
    judge(watch, bank(1_000, 3))
    for chart in watch.charts():
        alone = watch.chart(chart.subject)
        assert (alone.rows, alone.evidence, alone.state) == (chart.rows, chart.evidence, SubjectState.STEADY)
        assert chart.compared is REFERENCE.by_name[chart.subject]


def test_an_incident_shows_the_rows_since_its_onset():
    watch = Watch(REFERENCE, settings=SETTINGS)
    data = bank(4_000, 4)
    data["age"][1_000:] += 10
    assert pages(judge(watch, data))
    chart = watch.chart("age")
    assert chart.state is SubjectState.DRIFTING
    assert chart.incident == watch.incidents()[0].id
    assert abs(chart.since - 1_000) <= 100
    assert chart.rows == 4_000 - chart.since
