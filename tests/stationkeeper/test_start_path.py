import subprocess
import sys

HEAVY = ("scipy", "mlflow", "sklearn", "pandas", "polars", "pyarrow", "onnxruntime", "river", "confluent_kafka")
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


def test_the_monitor_starts_without_the_libraries_of_training():
    done = subprocess.run(
        [sys.executable, "-c", START.format(heavy=HEAVY)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
