import subprocess
import sys
from typing import get_args

import pytest

from stationkeeper.commands.backtest import LevelName
from stationkeeper.contracts.messages import Level

HEAVY = ("scipy", "mlflow", "sklearn", "pandas", "polars", "pyarrow", "onnxruntime", "river", "confluent_kafka")
# Of extras that a role uses only where it is told to, and of the page's pictures.
OF_EXTRAS = ("boto3", "requests", "google", "kubernetes", "opentelemetry", "s3fs", "dvc", "matplotlib", "jinja2")
# What a role needs and a question to the command does not: together five times what the answer itself costs.
# Of pydantic and rich the library of the command line makes use by itself.
OF_LIBRARIES = ("numpy", "msgspec", "structlog", "yaml", "kafka", "starlette", "uvicorn", "asyncio")
# Of ours, those that build some fifty models of pydantic each.
OF_ROLES = (*OF_LIBRARIES, "stationkeeper.contracts.messages", "stationkeeper.config")
START = """
import sys
import stationkeeper.cli, stationkeeper.process.run
from stationkeeper.process import wiring
from stationkeeper.config import Config
config = Config.parse({{"models": {{"fraud": {{"predictions": "scores", "labels": "outcomes"}}}}}})
{begin}
print([name for name in {heavy} if name in sys.modules])
"""
ASK = """
import gc, sys
from stationkeeper.cli import main
sys.argv = ["stationkeeper", *{words}]
try:
    main()
except SystemExit as end:
    print(end.code, gc.get_threshold()[0], [name for name in {heavy} if name in sys.modules])
"""


def loaded(code: str) -> str:
    """Return the last line that a Python of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "begin",
    [
        "for stage in wiring.monitor_stages(config): wiring.loop_for(stage, config.kafka)",
        # Of a registry they ask only once they run.
        "import stationkeeper.deploy.router.server; wiring.deploy_stage(config), wiring.router_for(config)",
    ],
    ids=["monitor", "deploy and serve"],
)
def test_a_role_starts_without_the_libraries_of_training(begin: str):
    assert loaded(START.format(heavy=(*HEAVY, *OF_EXTRAS), begin=begin)) == "[]"


@pytest.mark.parametrize(("words", "code"), [("--version", 0), ("backtest --help", 0), ("no-such-verb", 2)])
def test_a_question_to_the_command_loads_nothing_of_the_roles(words: str, code: int):
    assert loaded(ASK.format(words=words.split(), heavy=(*HEAVY, *OF_ROLES))) == f"{code} 20000 []"


def test_the_verb_offers_every_level():
    assert get_args(LevelName) == tuple(Level)
