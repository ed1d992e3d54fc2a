"""Plays the outside world: asks the router for predictions and sends the labels later, paced by the stream clock."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl
from kafka import KafkaProducer

from stationkeeper.demo.scenario import Chunk
from stationkeeper.demo.stage import connect

# Rows of one request. Chosen: half doubles the round trips, double makes one answer hold up twice as many rows.
ASK_ROWS: Final = 500
# The pauses grow from 0.1 s to 1 s, so this is about 55 s: a restarted router is back by then. Half gives up at 25 s.
RETRIES: Final = 60


class DriverError(RuntimeError):
    """The world could not reach the router or the broker."""


@dataclass(slots=True)
class ReplayProgress:
    """How far the world is: stream time (ms), answers received and labels sent."""

    time_ms: int = 0
    asked: int = 0
    labelled: int = 0


class Driver:
    """Replays chunks against a router and a labels topic.

    ``speed`` says how many stream seconds pass in a wall second now; ``waits_for`` names whoever has to come nearer
    before the stream goes on to a moment, so that a slow machine is given time and the result stays the same.
    """

    def __init__(
        self,
        router: str,
        model: str,
        producer: KafkaProducer,
        labels_topic: str,
        *,
        speed: Callable[[], float],
        waits_for: Callable[[int], str],
    ) -> None:
        # One connection kept open: a new one for each request would measure the handshake.
        self._connection = connect(router, 30)
        self._path = f"/predict/{model}"
        self._model = model
        self._producer = producer
        self._labels_topic = labels_topic
        self._speed = speed
        self._waits_for = waits_for
        self.progress = ReplayProgress()

    def run(self, chunks: Iterable[Chunk], stop: threading.Event) -> None:
        """Replay until the chunks end or ``stop``; raises ``DriverError``."""
        due = time.monotonic()
        before: int | None = None
        for chunk in chunks:
            if stop.is_set():
                break
            if before is not None:
                # At most one second of delay is made up: after a long wait for a slow role the stream would else come
                # in a burst.
                due = max(due + (chunk.until_ms - before) / 1_000 / self._speed(), time.monotonic() - 1.0)
            before = chunk.until_ms
            self._pace(due, chunk.until_ms, stop)
            for start in range(0, len(chunk.asks), ASK_ROWS):
                self._ask(chunk.asks[start : start + ASK_ROWS])
            self._report(chunk.labels)
            self.progress.time_ms = chunk.until_ms
        self._producer.flush()
        self._connection.close()

    def _pace(self, due: float, until_ms: int, stop: threading.Event) -> None:
        """Wait for the wall clock and for whoever is behind."""
        while not stop.is_set():
            wait = due - time.monotonic()
            if wait <= 0 and not self._waits_for(until_ms):
                return
            stop.wait(min(max(wait, 0.02), 0.25))

    def _ask(self, rows: pl.DataFrame) -> None:
        features = [name for name in rows.columns if name not in {"event_id", "entity_id", "time"}]
        instances = [
            {
                "event_id": row["event_id"],
                "entity_id": row["entity_id"],
                "time": row["time"],
                "features": {name: row[name] for name in features},
            }
            for row in rows.iter_rows(named=True)
        ]
        body = json.dumps({"instances": instances}).encode()
        status, text = 0, b""
        for attempt in range(RETRIES):
            try:
                self._connection.request("POST", self._path, body, {"content-type": "application/json"})
                response = self._connection.getresponse()
                text = response.read()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                status, text = 0, str(error).encode()
            else:
                status = response.status
            if status == http.HTTPStatus.OK:
                self.progress.asked += len(rows)
                return
            # No connection, too many, not ready: what time mends. The router itself says how (deploy.router.refusals).
            if status not in {0, 429, 503}:
                raise DriverError(f"the router answered {status}: {text[:500].decode(errors='replace')}")
            time.sleep(min(0.1 * (attempt + 1), 1.0))
        raise DriverError(f"the router did not answer {RETRIES} times: {text[:500].decode(errors='replace')}")

    def _report(self, labels: pl.DataFrame) -> None:
        for event_id, known_ms, label in labels.select("event_id", "time", "label").iter_rows():
            event = {"kind": "label", "event_id": event_id, "time": known_ms, "model": self._model, "label": label}
            # Keyed like the prediction, as docs/events asks of a producer.
            self._producer.send(self._labels_topic, json.dumps(event).encode(), key=event_id.encode())
        self.progress.labelled += len(labels)
