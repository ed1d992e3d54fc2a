"""Asks the team's Prometheus about a canary, in threads of its own: an answer may take seconds, a flush may not."""

import itertools
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import quote

import structlog

from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.masking import masked
from stationkeeper.deploy.core.queries import UNASKED_MS, QueryAnswer
from stationkeeper.deploy.settings import QuerySettings, TargetSettings
from stationkeeper.deploy.targets.http import JsonClient
from stationkeeper.streams.errors import Retryable

_log = structlog.get_logger()
# Prometheus scrapes each fifteen to sixty seconds: asked more often it repeats itself, and three failures in a row
# would be one scrape.
_EVERY_S = 60.0
# How long a question under way is waited for at the end, chosen: as for the effects.
_STOP_S = 5.0
# What Prometheus answers to a query that it cannot read or carry out: an error of the query, with its words.
_REFUSED = frozenset({400, 422})
# How much of these words is kept, chosen: they may quote the whole query.
_MOST_WORDS = 300

Arms = tuple[str, str]
"""The old and the new version."""


class _Found(NamedTuple):
    """What was answered to the questions of a time (monotonic seconds) about two versions."""

    at: float
    arms: Arms
    answers: dict[str, QueryAnswer]


class Queries:
    """The queries of each model, asked every minute while two versions are compared; ``models`` have them by name.

    One thread a model: a Prometheus that hangs takes a timeout a query, and the next model's may be another one.
    """

    def __init__(self, models: Mapping[str, Mapping[str, QuerySettings]], every_s: float = _EVERY_S) -> None:
        self._models = {model: dict(queries) for model, queries in models.items() if queries}
        self._every_s = every_s
        self._arms: dict[str, Arms] = {}
        self._due: dict[str, tuple[Arms, float]] = {}
        self._found: dict[str, list[_Found]] = {}
        self._taken: dict[str, int] = {}
        self._told: dict[tuple[str, str], str] = {}
        # Who asks, and how often it has: an answer that was counted, and is given again, is known by them.
        self._asker, self._turns = uuid.uuid4().hex, itertools.count(1)
        self._wake = threading.Condition()
        self._stopping = False
        self._threads: dict[str, threading.Thread] = {}

    def follow(self, model: str, arms: Arms | None) -> None:
        """Ask about these versions of a model from now on, None about none; returns at once."""
        if model not in self._models or self._arms.get(model) == arms:
            return
        with self._wake:
            # What a transaction that was given up had taken is there again, of these versions and as long as it is of
            # use: one process may follow them after another.
            since = time.monotonic() - UNASKED_MS / 1_000
            self._found[model] = [one for one in self._found.get(model, ()) if one.arms == arms and one.at > since]
            self._taken.pop(model, None)
            if arms is None:
                del self._arms[model]
                return
            # Not sooner for a transaction that was given up: one scrape that failed would be two failures in a row.
            last, due = self._due.get(model, (arms, 0.0))
            self._arms[model], self._due[model] = arms, (arms, due if last == arms else 0.0)
            # Started with the first canary: a process that compares nothing talks to nobody.
            if model not in self._threads:
                thread = threading.Thread(target=self._run, args=(model,), name=f"queries-{model}", daemon=True)
                self._threads[model] = thread
                thread.start()
            self._wake.notify_all()

    def forget(self) -> None:
        """Ask about nothing: another process has the rollouts now, or this one goes back to what is committed."""
        with self._wake:
            self._arms.clear()

    def taken(self, model: str) -> list[tuple[Arms, dict[str, QueryAnswer]]]:
        """Return the answers since the last call, each with the versions that it is about.

        They are kept until they are committed: a good answer that is lost would join the failures around it.
        """
        with self._wake:
            if model not in self._arms:
                return []
            found = self._found.get(model, [])
            new, self._taken[model] = found[self._taken.get(model, 0) :], len(found)
        return [(one.arms, one.answers) for one in new]

    def committed(self) -> None:
        """Forget the answers that were taken: what they said is in the log."""
        with self._wake:
            for model, count in self._taken.items():
                del self._found[model][:count]
            self._taken.clear()

    def close(self) -> None:
        """Stop asking."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        until = time.monotonic() + _STOP_S
        for thread in self._threads.values():
            thread.join(timeout=max(until - time.monotonic(), 0.0))

    def _run(self, model: str) -> None:
        while True:
            with self._wake:
                if self._stopping:
                    return
                now, arms = time.monotonic(), self._arms.get(model)
                due = self._due[model][1]
                if arms is None or due > now:
                    self._wake.wait(None if arms is None else due - now)
                    continue
                self._due[model] = arms, now + self._every_s
            turn = next(self._turns)
            answers = {
                name: replace(self._asked(model, name, query, arms), asker=self._asker, turn=turn)
                for name, query in self._models[model].items()
            }
            with self._wake:
                # Versions that changed meanwhile are asked about anew.
                if self._arms.get(model) == arms:
                    self._found.setdefault(model, []).append(_Found(now, arms, answers))

    def _asked(self, model: str, name: str, query: QuerySettings, arms: Arms) -> QueryAnswer:
        try:
            answer = ask(query, model, *arms)
        # Whatever an answer sets off in us must not end the thread: nobody would ask again, and the canary would wait.
        except Exception as error:  # noqa: BLE001 - it is told as this query's error, in the log and in the status
            answer = QueryAnswer(None, masked(f"{type(error).__name__}: {error}"))
        if answer.error and self._told.get((model, name)) != answer.error:
            _log.warning(LogEvent.QUERY_UNANSWERED, model=model, query=name, error=answer.error)
        self._told[model, name] = answer.error
        return answer


def ask(query: QuerySettings, model: str, champion: str, canary: str) -> QueryAnswer:
    """Return what Prometheus answers to a query about these versions; whatever fails is the answer's ``error``."""
    text = query.query
    # Names are validated text without quotes or braces, so that none can end the selector that it stands in.
    for variable, value in (("$model", model), ("$champion", champion), ("$canary", canary)):
        text = text.replace(variable, value)
    at = TargetSettings(
        kind="prometheus", url=query.url, timeout=query.timeout, token=query.token, ca_file=query.ca_file
    )
    try:
        client = JsonClient("Prometheus", at, "rollout.queries")
        path = f"{client.path.rstrip('/')}/api/v1/query?query={quote(text)}"
        status, body = client.call("GET", path, known=_REFUSED)
    except (Retryable, ValueError, OSError) as error:
        return QueryAnswer(None, masked(str(error)))
    if status in _REFUSED:
        return QueryAnswer(None, f"Prometheus refuses the query: {str(body.get('error', status))[:_MOST_WORDS]}")
    return QueryAnswer(_number(body.get("data")))


def _number(data: Any) -> float | None:
    """Return the one number of an answer, None where it holds none or several."""
    try:
        result = data["result"]
        if data["resultType"] == "vector":
            (only,) = result
            return float(only["value"][1])
        return float(result[1]) if data["resultType"] == "scalar" else None
    # Overflow: a JSON integer of more than 308 digits.
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None
