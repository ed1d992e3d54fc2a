import pytest
from pydantic import ValidationError

from stationkeeper.contracts.plugins import PluginGroup, plugin_names
from stationkeeper.registry import RegistrySettings
from stationkeeper.retrain.settings import RetrainSettings


def test_defaults_are_complete_and_reach_the_cores():
    settings = RetrainSettings()
    assert settings.plan_rules().min_rows == settings.data.min_rows
    assert settings.gate_rules().alpha == settings.gate.alpha
    assert settings.trainer in plugin_names(PluginGroup.TRAINERS)


def test_a_block_of_the_bootstrap_holds_what_hangs_together_at_the_first_look():
    settings = RetrainSettings()
    # Rows of one visit hang together: cut into several blocks they speak as if each were evidence of its own.
    assert settings.data.min_rows * settings.windows.holdout / settings.gate.blocks >= 9


@pytest.mark.parametrize(
    ("data", "where", "said"),
    [
        ({"trainer": "forest"}, "trainer", "'forest' is no trainer; write command, gradient-boosting"),
        ({"windows": {"holdout": 0.8, "validation": 0.15}}, "windows", "leave less than a tenth"),
        ({"data": {"min_row": 5}}, "data.min_row", "Extra inputs"),
        ({"training": {"timeout": "soon"}}, "training.timeout", "'soon' is not a duration"),
        ({"cooldown": "1h"}, "", "write models.NAME.requests.cooldown instead of retrain.cooldown"),
        ({"daily_budget": 4}, "", "write models.NAME.requests.most and period instead of retrain.daily_budget"),
        ({"threshold": {"rule": "f2"}}, "threshold.rule", "'keep-precision', 'f1' or 'alert-rate'"),
        ({"gate": {"alpha": 0}}, "gate.alpha", "greater than 0"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(data: dict[str, object], where: str, said: str):
    with pytest.raises(ValidationError) as caught:
        RetrainSettings.model_validate(data)
    (error,) = caught.value.errors()
    assert ".".join(str(part) for part in error["loc"]) == where
    assert said in error["msg"]


def test_durations_are_read():
    settings = RetrainSettings.model_validate({"training": {"timeout": "2h"}, "labels": {"maturity": "30d"}})
    assert settings.training.timeout == 7_200_000
    assert settings.labels.maturity == 30 * 86_400_000
    assert RegistrySettings.model_validate({"timeout": "5s"}).timeout == 5_000
