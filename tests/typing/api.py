"""The public face as a type checker sees it; checked by mypy, never run."""

from typing import assert_type

import polars as pl

import stationkeeper as sk

reference = sk.profile(pl.DataFrame({"amount": [1.0]}), model="fraud", time="when", pane="1m")
assert_type(reference, sk.Reference)
assert_type(reference.digest, str)
assert_type(reference.to_frame(), pl.DataFrame)

found = sk.backtest(pl.DataFrame({"amount": [1.0]}), reference, pane="1m", label_delay="2d")
assert_type(found, sk.BacktestResult)
assert_type(found.rows, int)

with sk.client.Client("localhost:9092") as log:
    assert_type(log.label(model="fraud", event_id="e", label=True), bool)
assert_type(log.counts().dropped, int)

sk.profile({"amount": [1.0]}, modle="fraud")  # type: ignore[call-arg]
