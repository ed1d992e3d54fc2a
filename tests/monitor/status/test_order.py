"""The order of a model's subjects: states, then the share that moved times the importance, then evidence."""

import math
from types import SimpleNamespace
from typing import Any, cast

from stationkeeper.contracts.messages import SubjectState, SubjectType
from stationkeeper.monitor.core.charts import Chart
from stationkeeper.monitor.status.model import ModelView, _severity
from tests.monitor.core.streams import bank, reference_of

SUBJECT = reference_of(bank(100)).subjects[0]


def chart(state: SubjectState, effect: float, evidence: float = 20.0) -> Chart:
    return Chart("x", SubjectType.FEATURE, state, 900, 0, effect, 0.01, evidence, 16.0, {}, {}, SUBJECT)


def test_a_small_move_of_what_the_model_rests_on_is_above_a_large_one_of_what_it_hardly_reads():
    large, small = chart(SubjectState.DRIFTING, 0.4), chart(SubjectState.DRIFTING, 0.1)
    assert _severity(small, 8.0) > _severity(large, 1.0) > _severity(small, 1.0)


def test_no_importance_lifts_one_state_over_another_and_of_steady_ones_evidence_decides():
    broken, drifting = chart(SubjectState.BROKEN, 0.0), chart(SubjectState.DRIFTING, 1.0)
    assert _severity(broken, 1.0) > _severity(drifting, 1e9)
    near, far = chart(SubjectState.STEADY, 0.0, 15.0), chart(SubjectState.STEADY, 0.3, 2.0)
    assert _severity(chart(SubjectState.RECOVERING, 0.0), 1.0) > _severity(near, 1.0) > _severity(far, 9.0)
    assert _severity(chart(SubjectState.UNKNOWN, math.nan, math.nan), 1.0) < _severity(far, 1.0)


def test_what_a_page_shows_of_a_cure_is_no_part_of_the_judges_state() -> None:
    status = {"id": "inc-1", "opened": 1, "closed": 2}
    cures = SimpleNamespace(of=lambda _: {"outcome": "cured"})
    judge = SimpleNamespace(
        escalation=SimpleNamespace(recovered=[status]), watches={}, retrainings=SimpleNamespace(cures=cures)
    )
    view = ModelView(cast("Any", judge), cast("Any", None), "wall")
    assert [one["cure"]["outcome"] for one in view._incidents()] == ["cured"]
    assert "cure" not in status
