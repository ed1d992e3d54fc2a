"""Tells other systems what the loop decided: a page, a request, a step of a rollout goes to a webhook or an event bus.

In: the committed records of verdicts, retrain requests and deployments. Out: one call of a `Notifier` for each that it
asked for. State: the offsets of one consumer group a notifier. Invariant: told only after the record is in the log, at
least once, under one id that a receiver can drop repeats by; a receiver that is away or refuses hurts itself alone.
Read `notifier` (the protocol, what is told, and how one is found), `notices` (a record in words), `post` (the two that
ship), `stage` (when one is called), `conformance` (the suite that a third party runs).
"""

from stationkeeper.notify.conformance import check_notifier
from stationkeeper.notify.notifier import Notice, Notifier, NotifierSettings, Told, notifier_for

__all__ = ["Notice", "Notifier", "NotifierSettings", "Told", "check_notifier", "notifier_for"]
