"""The settings refuse what cannot work, and the documented defaults are the real ones."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from stationkeeper.deploy.core.policy import Action, Guardrail
from stationkeeper.deploy.settings import RolloutSettings, ServeSettings

DOCUMENT = Path(__file__).parents[2] / "docs" / "canary.md"


def test_the_documented_defaults_are_the_defaults():
    text = DOCUMENT.read_text(encoding="utf-8")
    block = text.partition("## Settings and their defaults")[2].partition("```yaml\n")[2].partition("```")[0]
    written = yaml.safe_load(block)["rollout"]
    assert RolloutSettings.model_validate(written) == RolloutSettings()
    assert set(written) == set(RolloutSettings.model_fields)


def test_the_documented_actions_are_the_defaults():
    rows = [line.split("|") for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    shown = {row[1].strip(" `"): row[3].strip() for row in rows if row[1].strip(" `") in set(Guardrail)}
    words = {Action.ROLL_BACK: "rolls back", Action.INFORM: "informs", Action.HOLD: "holds"}
    assert shown == {name.value: words[rail.action] for name, rail in RolloutSettings().policy().guardrails.items()}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"steps": [0.5, 0.1]}, "must rise"),
        ({"steps": [0.0]}, "shares of at least"),
        ({"steps": [1.0]}, "below 1"),
        # Ten thousand basis points, and twice one hundred of them.
        ({"steps": [0.5, 0.99996]}, "below 1"),
        ({"steps": [0.01, 0.01004]}, "by 0.0001 at least"),
        ({"step_duration": "3 fortnights"}, "not a duration"),
        ({"max_duration": "1h"}, "shorter than 4 steps"),
        ({"lease": "10ms"}, "could not renew"),
        ({"guardrails": {"precison": {"action": "hold", "margin": 1}}}, "precision"),
        ({"guardrails": {"precision": {"action": "hold", "margin": 0.5}}}, "greater than or equal to 1"),
        ({"guardrails": {"errors": {"action": "hold", "margin": 1, "slower_by": "5ms"}}}, "latency alone"),
        ({"stepz": [0.5]}, "Extra inputs"),
        ({"alpha": float("nan")}, "finite"),
    ],
)
def test_what_cannot_work_is_refused_with_its_key(given: dict[str, Any], says: str):
    with pytest.raises(ValidationError, match=says):
        RolloutSettings.model_validate(given)


def test_serving_limits_must_be_possible():
    with pytest.raises(ValidationError, match="max_rows"):
        ServeSettings.model_validate({"max_rows": 0})
