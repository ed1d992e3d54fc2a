import subprocess
import sys
from typing import get_args

import pytest

from stationkeeper.commands.backtest import LevelName
from stationkeeper.contracts.messages import Level

HEAVY = ("scipy", "mlflow", "sklearn", "pandas", "polars", "pyarrow", "onnxruntime", "river", "confluent_kafka")
# What a role needs and a question to the command does not: together five times what the answer itself costs.
# Of pydantic and rich the library of the command line makes use by itself.
OF_ROLES = ("numpy", "msgspec", "structlog", "yaml", "kafka", "starlette", "uvicorn", "asyncio")
START = """
import sys
import stationkeeper.cli, stationkeeper.process.run
from stationkeeper.process import wiring
from stationkeeper.config import Config
config = Config.parse({{"models": {{"fraud": {{"predictions": "scores", "labels": "outcomes"}}}}}})
for stage in wiring.monitor_stages(config):
    wiring.loop_for(stage, config.kafka)
print([name for name in {heavy} if name in sys.modules])
"""
ASK = """
import sys
from stationkeeper.cli import main
sys.argv = ["stationkeeper", *{words}]
try:
    main()
except SystemExit as end:
    print(end.code, [name for name in {heavy} if name in sys.modules])
"""


def test_the_monitor_starts_without_the_libraries_of_training():
    done = subprocess.run(
        [sys.executable, "-c", START.format(heavy=HEAVY)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("words", "code"), [("--version", 0), ("backtest --help", 0), ("no-such-verb", 2)])
def test_a_question_to_the_command_loads_nothing_of_the_roles(words: str, code: int):
    asked = ASK.format(words=words.split(), heavy=(*HEAVY, *OF_ROLES))
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == f"{code} []"


def test_the_verb_offers_every_level():
    assert get_args(LevelName) == tuple(Level)
