"""The flights stream is the real year, in order, with labels at landing."""

import polars as pl
import pytest

from stationkeeper.demo.flights import START_MS, TRAINING_DAYS, FlightsScenario

ARRIVED_IN_2013 = 336_776 - 9_430
"""Flights of the data set less those without an arrival delay, as its own documentation counts them."""


def test_the_year_is_complete_and_in_order() -> None:
    scenario = FlightsScenario(days=366)
    asks = [chunk.asks for chunk in scenario.chunks()]
    training = scenario.training()
    assert len(training) + sum(map(len, asks)) == ARRIVED_IN_2013
    assert training["time"].max() < scenario.start_ms == START_MS + TRAINING_DAYS * 86_400_000
    assert pl.concat([asks[i] for i in range(0, len(asks), 7)])["time"].is_sorted()


def test_labels_come_at_landing_and_once() -> None:
    scenario = FlightsScenario(days=50)
    asked = labelled = last = 0
    for chunk in scenario.chunks():
        assert chunk.until_ms > last
        last = chunk.until_ms
        asked += len(chunk.asks)
        labelled += len(chunk.labels)
        assert chunk.labels["time"].max() is None or chunk.labels["time"].max() < chunk.until_ms
        assert labelled <= asked
    assert asked - labelled < 400
    assert scenario.training()["label"].mean() == pytest.approx(0.20, abs=0.02)
