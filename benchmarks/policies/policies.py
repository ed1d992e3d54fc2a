"""Policies: at a period's beginning, whether to train now, from the periods that are over."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from river.drift import ADWIN
from river.drift.binary import DDM

from benchmarks.policies.matrix import Losses
from benchmarks.policies.peers import cara, evidently, upf
from stationkeeper.demo.calendars import hindsight
from stationkeeper.monitor.core.ageing import AgeState, ServedVersion, Week, timing

Decide = Callable[[int, list[int]], bool]
"""Period and the versions so far, by the period they were trained at, the last in force: whether to train now."""


@dataclass(frozen=True)
class Outcome:
    """What a policy came to: wrong answers with the price of its trainings, how many, and the mean log loss."""

    cost: float
    trainings: int
    log_loss: float


def run(found: Losses, price: float, decide: Decide) -> Outcome:
    """Follow a policy through a stream; the version of the first period is free to all."""
    versions, cost, surprise = [1], 0.0, 0.0
    for period in range(1, len(found.rows)):
        if period > 1 and decide(period, versions):
            versions.append(period)
            cost += price
        cost += found.wrong[versions[-1], period]
        surprise += found.rows[period] * found.log_loss[versions[-1], period]
    return Outcome(cost, len(versions) - 1, surprise / found.rows[1:].sum())


def best(found: Losses, price: float) -> Outcome:
    """The cheapest trainings in hindsight; O(periods^2)."""
    # Nobody has a version before the first period's rows are in, so the first that can serve is that of period 1.
    used = [0, *(version + 1 for version in hindsight(found.wrong[1:, 1:], price))]
    return run(found, price, lambda period, _: used[period] == period)


def never(_: int, __: list[int]) -> bool:
    """Keep the first version."""
    return False


def every(periods: int) -> Decide:
    """A calendar."""
    return lambda period, versions: period - versions[-1] >= periods


def shipped(found: Losses, price: float) -> Decide:
    """The rule that ships with ``requests: {when: pays}``, fed what the judge has: weeks of champions, and the gate.

    As there, nothing asks while data are broken, and their weeks are no age; the gate compares the champion with a
    model that has not learnt from the last period, on that period.
    """

    def seen(old: int, new: int) -> float | None:
        held = new - 1
        if held <= old or found.broken[held]:
            return None
        return float((found.wrong[old, held] - found.wrong[held, held]) / found.rows[held])

    def decide(period: int, versions: list[int]) -> bool:
        if found.broken[period - 1]:
            return False
        ends = [*versions[1:], period]
        served = tuple(
            ServedVersion(
                version=str(first),
                spared=seen(before, first) if before else None,
                weeks=tuple(
                    Week(at, int(found.rows[at]), round(found.wrong[first, at]))
                    for at in range(first, last)
                    if not found.broken[at]
                ),
            )
            for before, first, last in zip([0, *versions], versions, ends, strict=False)
        )
        due = timing(AgeState(versions=served), price, period)
        return due is not None and due.pays

    return decide


def on_errors(found: Losses, make: Callable[[], ADWIN | DDM]) -> Decide:
    """Train at the end of a period in which a detector fires on the errors of the version in force."""
    fired: dict[int, int | None] = {}

    def first_alarm(version: int) -> int | None:
        detector = make()
        for row, error in enumerate(found.errors[version].tolist()):
            detector.update(int(error))
            if detector.drift_detected:
                return int(np.searchsorted(found.starts, found.starts[version] + row, side="right"))
        return None

    def decide(period: int, versions: list[int]) -> bool:
        version = versions[-1]
        if version not in fired:
            fired[version] = first_alarm(version)
        alarm = fired[version]
        return alarm is not None and alarm <= period

    return decide


def policies(found: Losses) -> Callable[[float], dict[str, Decide]]:
    """Return what gives all policies by name at a price; what asks no price answers once for all of them."""
    free = {
        "never": never,
        "each period": every(1),
        "every 2nd": every(2),
        "every 4th": every(4),
        "every 8th": every(8),
        "every 13th": every(13),
        "ADWIN on errors": on_errors(found, ADWIN),
        "DDM on errors": on_errors(found, DDM),
        "Evidently's rule": evidently(found),
    }
    return lambda price: {
        **free,
        "CARA": cara(found, price),
        "UPF": upf(found, price),
        "when it pays": shipped(found, price),
    }
