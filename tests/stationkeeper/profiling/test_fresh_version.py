import numpy as np
import polars as pl

from stationkeeper.monitor.core.reference import load
from stationkeeper.profiling.fresh_version import build_reference
from stationkeeper.registry import FeatureKind, FeatureSpec, ModelCard
from stationkeeper.retrain.service.steps import ReferenceRows


def test_a_new_version_keeps_the_text_of_the_positive_class() -> None:
    rng = np.random.default_rng(1)
    spec = FeatureSpec(name="amount", kind=FeatureKind.NUMERIC)
    card = ModelCard.__new__(ModelCard)
    object.__setattr__(card, "threshold", 0.5)
    score = rng.random(200)
    rows = ReferenceRows(
        model="m",
        version="2",
        card=card,
        specs=(spec,),
        times=1_777_593_600_000 + np.arange(200) * 60_000,
        features=pl.DataFrame({"amount": rng.random(200)}),
        scores=score,
        labels=(rng.random(200) < score).astype(float),
        snapshot="",
        positive="fraud",
    )
    digest, text = build_reference(rows)
    made = load(text)
    assert (made.positive, made.digest) == ("fraud", digest)
    assert made.labels is not None
    assert 0.3 < made.labels.positives < 0.7
