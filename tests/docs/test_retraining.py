"""The trainer of docs/retraining.md holds to what it is said to show."""

import re
from pathlib import Path

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "retraining.md").read_text(encoding="utf-8")


def test_a_trainer_of_ones_own_conforms():
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert block.rstrip().endswith("check_trainer(Forest)")
    exec(compile(block, "docs/retraining.md", "exec"), {"__name__": "example"})
