"""A registered version trained once more from its own job and snapshot, and how far the two are the same."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from stationkeeper.registry import ArtifactError, ModelTask, Registry, Scorer, load_scorer
from stationkeeper.retrain.core.measures import Floats
from stationkeeper.retrain.snapshot import SnapshotError, SnapshotStore, newest_rows
from stationkeeper.retrain.training.job import (
    ARTIFACT_DIRECTORY,
    CHAMPION_DIRECTORY,
    JOB_FILE,
    RESULT_FILE,
    TrainingJob,
    TrainingResult,
)
from stationkeeper.retrain.training.process import train_to_the_end

# Rows on which two graphs of other bytes are compared, chosen: those of the export's own parity. Half of them may miss
# a leaf of a tree, twice of them cost as much time again and find little more.
COMPARED_ROWS: Final = 2_000

# A job of an older build names no limit, chosen: more than any of them may have taken, and it ends what hangs.
DAY_MS: Final = 86_400_000

# How far apart the answers of two models may be that count as alike, chosen: a hundred steps of a float32 near one,
# which another processor's order of sums makes; a split at another value moves a score a thousand times further.
# Of answers above one it is a share of the answer: a float32 of 25 000 has steps of 0.002.
ALIKE: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Retrained:
    """What came of it: ``same`` where the bytes are, else how far the answers lie apart (``furthest``).

    ``furthest`` is the largest ``|new - old| / max(1, |old|)``: of scores points, of large amounts a share of them.

    ``differences`` are what the two trainings say otherwise of themselves: numbers, code, packages.
    """

    model: str
    version: str
    snapshot: str
    rows: int
    seed: int
    same: bool
    furthest: float
    differences: tuple[str, ...]

    @property
    def alike(self) -> bool:
        """Whether it is the same model: the same bytes, or other bytes that answer alike."""
        return self.same or self.furthest <= ALIKE

    @property
    def exit_code(self) -> int:
        """0 for the same model, 1 for another."""
        return 0 if self.alike else 1

    def text(self) -> str:
        """Return the verdict in one line, and a line for each difference."""
        what = f"version {self.version} of {self.model}, trained again on {self.rows} rows of {self.snapshot[:12]}"
        verdict = f"OTHER: its answers lie up to {self.furthest:.3g} away"
        if self.same:
            verdict = "SAME: model.onnx has the same SHA-256"
        elif self.alike:
            verdict = f"ALIKE: other bytes, its answers lie at most {self.furthest:.3g} away"
        return "\n".join([f"{verdict}: {what}, seed {self.seed}", *(f"  {one}" for one in self.differences)])

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self) | {"alike": self.alike}


def train_again(registry: Registry, store: SnapshotStore, *, model: str, version: str) -> Retrained:
    """Train a version again by its run's own job (recipe, seed, windows, limits) and compare what comes out.

    Nothing is registered or kept. Raises ``ArtifactError`` (no such version, or trained elsewhere), ``SnapshotError``
    (its rows are not here, or somebody was erased from them), ``NoModel`` and ``Retryable``.
    """
    with TemporaryDirectory(prefix="stationkeeper-verify-") as scratch:
        place = Path(scratch)
        logged = [registry.source(model, version, place / name, name) for name in (JOB_FILE, RESULT_FILE)]
        try:
            recorded = TrainingJob.model_validate_json(logged[0].read_text())
            stated = TrainingResult.model_validate_json(logged[1].read_text())
        except ValueError as error:
            raise ArtifactError(f"the run of version {version} of {model} tells no training: {error}") from None
        registry.download(model, version, place / "registered")
        job = _at_home(registry, store, recorded, version, place)
        if stated.parameters is not None:
            # How far a search comes depends on the machine: what it chose is trained again, not the search. The window
            # was chosen before, by the parameters that were given.
            windows = tuple(one for one in job.windows if one.kind is stated.window)
            job = job.model_copy(update={"parameters": stated.parameters, "space": {}, "windows": windows})
        limit = round(1_000 * job.timeout_s) if job.timeout_s is not None else DAY_MS
        result = train_to_the_end(job, place / "again", limit)
        same = result.onnx_sha256 == stated.onnx_sha256
        models = load_scorer(place / "registered"), load_scorer(place / "again" / ARTIFACT_DIRECTORY)
        return Retrained(
            model=model,
            version=version,
            snapshot=job.digest,
            rows=result.rows,
            seed=job.seed,
            same=same,
            furthest=0.0 if same else _furthest(*models, job.snapshot),
            differences=tuple(_differences(stated, result)),
        )


def _at_home(registry: Registry, store: SnapshotStore, job: TrainingJob, version: str, place: Path) -> TrainingJob:
    """Return the job with its snapshot and champion where they lie here and now."""
    snapshot = store.find(job.digest)
    if snapshot is None:
        raise SnapshotError(
            f"no snapshot {job.digest} in {store.place}: run this where the role retrain runs, or it was deleted"
        )
    if snapshot.digest != job.digest:
        # Other rows give another model by right: nothing could be said of the one that is asked about.
        raise SnapshotError(
            f"somebody was erased from snapshot {job.digest}, what is left is {snapshot.digest}: the rows that version "
            f"{version} learnt from are gone, so it cannot be trained again"
        )
    champion = None
    if job.champion is not None:
        champion = place / CHAMPION_DIRECTORY
        registry.download(job.model, registry.tags(job.model, version).get("champion", ""), champion)
    return job.model_copy(update={"snapshot": snapshot.path.resolve(), "champion": champion})


def _furthest(registered: Scorer, trained: Scorer, snapshot: Path) -> float:
    """Return how far two models' answers on the newest rows lie apart; infinite where one lacks a feature."""
    rows = newest_rows(snapshot, COMPARED_ROWS)
    if registered.card.names != trained.card.names or registered.card.classes != trained.card.classes:
        return float("inf")
    several = registered.card.task is ModelTask.MULTICLASS
    features = rows.select(registered.card.names)
    old, new = (one.class_scores(features) if several else one.score(features) for one in (registered, trained))
    return distance(old, new)


def distance(old: Floats, new: Floats) -> float:
    """Return the largest ``|new - old| / max(1, |old|)``, NaN where an answer is: 25 000 and 25 000.5 give 2e-5."""
    return float((np.abs(new - old) / np.maximum(1.0, np.abs(old))).max())


def _differences(stated: TrainingResult, found: TrainingResult) -> Iterator[str]:
    for name in ("trainer", "code", "window", "rows", "rows_after", "features", "threshold", "onnx_sha256"):
        old, new = getattr(stated, name), getattr(found, name)
        if old != new:
            yield f"{name}: {old} when it was registered, {new} now"
    # Seconds and the cost of serving differ by right, from run to run of one machine; a search is not made again.
    searched = stated.parameters is not None
    for name in ("performance", *(() if searched else ("backtest", "metrics")), "packages"):
        yield from _changed(name, getattr(stated, name), getattr(found, name))


def _changed(group: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"{group} {name}: {old.get(name, 'none')} when it was registered, {new.get(name, 'none')} now"
