"""The suite for detectors, over ours and over some that break one rule each."""

import numpy as np
import pytest

from stationkeeper.contracts.plugins import NotConforming
from stationkeeper.monitor.plugins import Watched
from stationkeeper.monitor.plugins.conformance import check_detector
from stationkeeper.monitor.plugins.registry import load
from stationkeeper.monitor.plugins.rules import FixedRule

SUBJECT = Watched("country", np.array([5000, 3000, 1500, 500, 0]))


class Psi(FixedRule):
    def __init__(self, subject, options):
        super().__init__("psi", subject, options)


class Deaf(Psi):
    def step(self, counts, start):
        return None


class Careless(Psi):
    def step(self, counts, start):
        counts[0] += 1
        return super().step(counts, start)


class Forgetful(Psi):
    def restore(self, state):
        """Begin anew."""


class Wordy(Psi):
    def step(self, counts, start):
        return "alarm"


class Unwritable(Psi):
    def state(self):
        return {"counts": self._counts}


class Nothing:
    def __init__(self, subject, options):
        pass


@pytest.mark.parametrize("name", ["psi", "evidently.chisquare", "river.ADWIN"])
def test_ours_conform(name: str):
    if name.startswith("river"):
        pytest.importorskip("river")
    check_detector(lambda subject, options: load(name, subject, options), SUBJECT)


def test_a_detector_is_found_by_its_import_path():
    assert isinstance(load(f"{__name__}:Psi", SUBJECT), FixedRule)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (Nothing, "lacks"),
        (Deaf, "no alarm"),
        (Careless, "changes the counts"),
        (Forgetful, "differently"),
        (Wordy, "gives str"),
        (Unwritable, "not JSON"),
    ],
)
def test_what_breaks_a_rule_is_named(broken, why: str):
    with pytest.raises(NotConforming, match=why):
        check_detector(broken, SUBJECT)
