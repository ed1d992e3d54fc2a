"""One role as a process of its own: the real tally or judge in the real loop, over a real Kafka, on the stream clock.

``--die before-commit:N`` kills the process as ``kill -9`` does at its Nth transaction, when the records and offsets
are sent and the commit is not; ``after-commit:N`` when the broker has committed and the process does not know it.
"""

import argparse
import json
import os
import signal
import sys
from typing import Any

from contracts.topics import Topics
from monitor.judge import Judge
from monitor.settings import ModelSettings
from monitor.tally import Tally
from stationkeeper.process import configure_logging, stop_on_signals
from streams.errors import Fatal
from streams.loop import Loop
from streams.reader import KafkaReader
from streams.settings import KafkaSettings
from streams.sink import KafkaSink
from streams.source import KafkaSource

EXIT_FATAL = 70


def models(prefix: str) -> dict[str, ModelSettings]:
    """Return the one model of the bank under faults."""
    return {"fraud": ModelSettings.model_validate({"name": "fraud", "predictions": f"{prefix}.scores"})}


def stage_of(role: str, settings: KafkaSettings) -> Any:
    """Return the role's stage as the product composes it."""
    topics = Topics(settings.prefix)
    if role == "tally":
        return Tally(models(settings.prefix), topics, clock="stream", dead_letters=settings.dead_letters)
    counting = KafkaReader(settings, "partitions")
    return Judge(
        models(settings.prefix), topics, clock="stream", partitions=lambda topic: len(counting.partitions(topic))
    )


class DyingSink(KafkaSink):
    """A sink whose process ends in its Nth commit, before or after the broker has heard of it."""

    def __init__(self, settings: KafkaSettings, role: str, when: str, at: int) -> None:
        super().__init__(settings, role)
        self._when, self._left = when, at

    def commit(self, offsets: Any, group: Any) -> None:
        """Commit, or die in it."""
        self._left -= 1
        if self._left == 0:
            commit = self._producer.commit_transaction

            def dying() -> None:
                if self._when == "after-commit":
                    commit()
                os.kill(os.getpid(), signal.SIGKILL)

            self._producer.commit_transaction = dying
        super().commit(offsets, group)


def main() -> int:
    """Run until SIGTERM; 70 after an error that must not be tried again."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("tally", "judge"))
    parser.add_argument("settings", help="KafkaSettings as JSON")
    parser.add_argument("--die", default="")
    arguments = parser.parse_args()
    configure_logging()
    settings = KafkaSettings.model_validate(json.loads(arguments.settings))
    stage = stage_of(arguments.role, settings)
    when, _, at = arguments.die.partition(":")
    sink = DyingSink(settings, stage.name, when, int(at)) if when else KafkaSink(settings, stage.name)
    loop = Loop(stage, KafkaSource(settings, stage.name), sink, KafkaReader(settings, stage.name), settings)
    try:
        loop.run(stop_on_signals())
    except Fatal:
        return EXIT_FATAL
    return 0


if __name__ == "__main__":
    sys.exit(main())
