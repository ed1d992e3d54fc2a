"""One role as a process of its own: the real stage in the real loop, over a real Kafka, through the client asked for.

``--die before-commit:N`` kills the process as ``kill -9`` does at its Nth transaction, when the records and offsets
are sent and the commit is not; ``after-commit:N`` when the broker has committed and the process does not know it.
"""

import argparse
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any

from stationkeeper.contracts.topics import Topics
from stationkeeper.logs import configure_logging
from stationkeeper.monitor.join import stage as join
from stationkeeper.monitor.join.stage import Join
from stationkeeper.monitor.judge import Judge
from stationkeeper.monitor.settings import ModelSettings
from stationkeeper.monitor.status import ModelView
from stationkeeper.monitor.tally.stage import Tally
from stationkeeper.process.run import stop_on_signals
from stationkeeper.streams.connect import reader_for, sink_for, source_for
from stationkeeper.streams.errors import Fatal
from stationkeeper.streams.loop import Loop
from stationkeeper.streams.settings import KafkaSettings

EXIT_FATAL = 70


def models(prefix: str, more: Mapping[str, Any]) -> dict[str, ModelSettings]:
    """Return the one model of the bank under faults."""
    # The reference has no order of time: without adoption it is judged at once, for the rows need verdicts.
    own = {"name": "fraud", "predictions": f"{prefix}.scores", "adoption": "0d", "quality": {"learn_traffic": "0d"}}
    given = dict(more)
    if given.get("labels"):
        given["labels"] = f"{prefix}.labels"
    return {"fraud": ModelSettings.model_validate(own | given)}


def stage_of(role: str, settings: KafkaSettings, setup: Mapping[str, Any]) -> Any:
    """Return the role's stage as the product composes it."""
    topics, known, clock = Topics(settings.prefix), models(settings.prefix, setup["model"]), setup["clock"]
    if role == "tally":
        letters = settings.dead_letters
        return Tally(known, topics, clock=clock, dead_letters=letters, idle_after=setup["idle_after"])
    if role == "join":
        # An older build, whose state this one must read, has no such settings, and runs tally and judge only.
        from stationkeeper.monitor.settings import JoinSettings

        if setup["save_rows"]:
            join._SAVE_ROWS = setup["save_rows"]
        return Join(known, topics, JoinSettings.model_validate(setup["join"]))
    counting = reader_for(settings, "partitions")
    return Judge(known, topics, view=ModelView, clock=clock, partitions=lambda topic: len(counting.partitions(topic)))


class DyingProducer:
    """A client whose process ends in its Nth commit, before or after the broker has heard of it."""

    def __init__(self, client: Any, when: str, at: int) -> None:
        self._client, self._when, self._left = client, when, at

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def commit_transaction(self, *limit: float) -> None:
        """Commit, or die in it."""
        self._left -= 1
        if self._left > 0:
            self._client.commit_transaction(*limit)
            return
        if self._when == "after-commit":
            self._client.commit_transaction(*limit)
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    """Run until SIGTERM; 70 after an error that must not be tried again."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=("tally", "judge", "join"))
    parser.add_argument("settings", help="KafkaSettings as JSON")
    parser.add_argument("setup", help="clock and model settings as JSON")
    parser.add_argument("--die", default="")
    parser.add_argument("--file-limit", type=int, default=0, help="no file that is written may grow larger (bytes)")
    arguments = parser.parse_args()
    configure_logging()
    if arguments.file_limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.file_limit, arguments.file_limit))
    settings = KafkaSettings.model_validate(json.loads(arguments.settings))
    stage = stage_of(arguments.role, settings, json.loads(arguments.setup))
    sink: Any = sink_for(settings, stage.name)
    when, _, at = arguments.die.partition(":")
    if when:
        sink.recover()
        sink._client = DyingProducer(sink._client, when, int(at))
    internal = {topic.name: topic.partitions for topic in Topics(settings.prefix).all()}
    source, reader = source_for(settings, stage.name), reader_for(settings, stage.name)
    loop = Loop(stage, source, sink, reader, settings, internal=internal)
    try:
        loop.run(stop_on_signals())
    except Fatal:
        return EXIT_FATAL
    return 0


if __name__ == "__main__":
    sys.exit(main())
