"""Stands in for your service in docs/tutorial.md: a model that scores loans, its past as a CSV, its events in Kafka.

``python loans.py history`` writes history.csv, three weeks of applications with their scores and whether the loans
defaulted; in the last three days customers send other requests than before. ``python loans.py past`` writes past.csv,
two weeks in which nothing happens. ``python loans.py serve`` answers applications as JSON records in the topic
loans.scores: first those of the last day (a service that has run for a while has filled its topic), then new ones until
Ctrl-C.
Eight hours ago customers began to send other requests than before: more come by app, and they ask for more.
"""

# A program to read beside a page, which prints for a person: no package, and its dice need no secrecy.
# ruff: noqa: INP001, S311, T201

import csv
import json
import os
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

BROKER = os.environ.get("STATIONKEEPER_KAFKA", "localhost:9092")
TOPIC = "loans.scores"
EVERY = timedelta(seconds=10)
SHIFT = timedelta(hours=8)


def application(dice: random.Random, *, shifted: bool) -> dict[str, Any]:
    """One application for a loan: what was asked for, by whom and how."""
    channel = dice.choices(["branch", "web", "app"], [2, 5, 6] if shifted else [2, 5, 3])[0]
    amount = dice.lognormvariate(9.0, 0.6) * (1.3 if shifted and channel == "app" else 1.0)
    return {"amount": round(amount, 2), "income": round(dice.lognormvariate(8.0, 0.4), 2), "channel": channel}


def score(applicant: dict[str, Any]) -> float:
    """The model: a probability of default from amount and income."""
    risk: float = 0.01 + 0.02 * applicant["amount"] / applicant["income"]
    return round(min(0.95, risk), 4)


def write(name: str, end: datetime, span: timedelta, every: timedelta, shift: timedelta = timedelta()) -> None:
    """Write what the model was asked in the time before ``end``, shifted at its end, and how those loans went."""
    dice, rows = random.Random(1), span // every
    with Path(name).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["time", "amount", "income", "channel", "score", "defaulted"])
        for row in range(rows):
            when = end - (rows - row) * every
            applicant = application(dice, shifted=when >= end - shift)
            answer = score(applicant)
            table.writerow([when.isoformat(), *applicant.values(), answer, int(dice.random() < answer)])
    print(f"{name}: {rows:,} rows")


def serve(now: datetime) -> None:
    """Answer the applications of the last day at once, then one every ten seconds until Ctrl-C."""
    admin = KafkaAdminClient(bootstrap_servers=BROKER)
    stamped = {"message.timestamp.type": "LogAppendTime"}
    try:
        admin.create_topics([NewTopic(TOPIC, num_partitions=2, replication_factor=1, topic_configs=stamped)])
    except TopicAlreadyExistsError:
        pass
    finally:
        admin.close()
    producer = KafkaProducer(bootstrap_servers=BROKER, acks="all", linger_ms=20)
    dice, begin = random.Random(2), now - timedelta(days=1)
    count = timedelta(days=1) // EVERY
    for number in range(count):
        when = begin + number * EVERY
        producer.send(TOPIC, record(dice, number, when, shifted=when >= now - SHIFT))
    producer.flush()
    print(f"{TOPIC}: {count:,} records up to now; new ones come every ten seconds", flush=True)
    while True:
        time.sleep(EVERY.total_seconds())
        count += 1
        producer.send(TOPIC, record(dice, count, datetime.now(UTC), shifted=True))


def record(dice: random.Random, number: int, when: datetime, *, shifted: bool) -> bytes:
    """A request and its answer as this service writes them; not Stationkeeper's own form."""
    applicant = application(dice, shifted=shifted)
    body = {"request_id": f"r-{number}", "ts": when.isoformat(), "applicant": applicant, "score": score(applicant)}
    return json.dumps(body).encode()


if __name__ == "__main__":
    now = datetime.now(UTC).replace(microsecond=0)
    verb = sys.argv[1]
    try:
        if verb == "history":
            # A day that stays, so that everybody sees the numbers that the pages show.
            end = datetime(2026, 6, 1, tzinfo=UTC)
            write("history.csv", end, timedelta(days=21), timedelta(minutes=1), timedelta(days=3))
        elif verb == "past":
            write("past.csv", now - timedelta(days=1), timedelta(days=14), EVERY)
        else:
            serve(now)
    except KeyboardInterrupt:
        sys.exit(0)
