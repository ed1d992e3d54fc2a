"""The steps of a retrain that touch the world; each can be repeated after a crash and then gives the same."""

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from stationkeeper.contracts.identity import content_id
from stationkeeper.contracts.labels.delay import Absence
from stationkeeper.contracts.messages import Candidate
from stationkeeper.contracts.times import to_ms
from stationkeeper.events import Form
from stationkeeper.registry import CARD_FILE, FeatureSpec, ModelCard, Registry
from stationkeeper.retrain.core.gate import GateVerdict
from stationkeeper.retrain.core.labels import misfit
from stationkeeper.retrain.core.plan import LabelStatistics
from stationkeeper.retrain.core.verdict import Compared, judge
from stationkeeper.retrain.service.lineage import candidate_of, register_training, request_tags
from stationkeeper.retrain.service.state import RetrainState
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot import (
    EVENT_ID,
    TIME,
    EventColumns,
    EventFrames,
    LabelledRows,
    LabelTimes,
    Snapshot,
    SnapshotError,
    SnapshotStore,
    describe_ranges,
)
from stationkeeper.retrain.training.job import (
    AMOUNT,
    ARTIFACT_DIRECTORY,
    CHAMPION_DIRECTORY,
    GROUP,
    HELD_OUT_FILE,
    JOB_FILE,
    SCORED_FILE,
    WEIGHT,
    TrainingJob,
    TrainingResult,
)
from stationkeeper.streams.errors import Retryable
from stationkeeper.streams.ports import Partition, Reader


@dataclass(frozen=True, slots=True)
class ReferenceRows:
    """What a new version's reference is built from: rows like those it will see, with its own scores on them.

    ``features`` has a column for each of ``specs``; ``scores`` are out of sample where the model has seen the row;
    ``labels`` is NaN where unknown, 1.0 for the positive class, whose text events carry as ``positive``. Of several
    classes both are indices in those of the card, and ``confidence`` is the probability of each answer, NaN of others.
    """

    model: str
    version: str
    card: ModelCard
    specs: tuple[FeatureSpec, ...]
    times: npt.NDArray[np.int64]
    features: pl.DataFrame
    scores: npt.NDArray[np.float64]
    labels: npt.NDArray[np.float64]
    snapshot: str
    positive: str = "1"
    confidence: npt.NDArray[np.float64] | None = None


class ReferenceBuilder(Protocol):
    """Builds a version's reference; the composition root gives one, because references belong to the monitor."""

    def __call__(self, rows: ReferenceRows) -> tuple[str, bytes]:
        """Return the reference's digest and its JSON."""


@dataclass(frozen=True, slots=True)
class ModelInputs:
    """What retraining needs to know of one model: its topics and settings, and when no label is a negative one."""

    model: str
    topics: tuple[Form, ...]
    settings: RetrainSettings
    future_skew_ms: int | None = None
    absence: Absence | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """The labels known now: how many, the stream's clock, the offsets read to, and why no model can learn from them."""

    statistics: LabelStatistics | None
    clock_ms: int | None
    ends: dict[Partition, int]
    unfit: str | None = None


@dataclass(frozen=True, slots=True)
class RegisteredCandidate:
    """A registered challenger with the two records that announce it."""

    candidate: Candidate
    reference: bytes
    run_id: str


@dataclass(slots=True)
class Steps:
    """Runs steps in a worker thread, one at a time; holds the rows read so far of the models in work.

    ``kept_since`` gives since when a topic has lost nothing and the span of a segment (ms), None where nobody can tell.
    """

    models: Mapping[str, ModelInputs]
    registry: Registry
    snapshots: SnapshotStore
    open_reader: Callable[[], Reader]
    build_reference: ReferenceBuilder
    work_dir: Path
    kept_since: Callable[[str], tuple[int, int] | None] = lambda _topic: None
    _rows: dict[str, LabelledRows] = field(default_factory=dict)

    def survey(self, state: RetrainState) -> Survey:
        """Read what came since the last survey and count matured labels after the onset."""
        settings = self.models[state.model].settings
        rows = self._read(state, None)
        # No event at all: without a clock nothing can be mature, so the request waits.
        if rows.clock_ms is None:
            return Survey(None, None, dict(rows.end))
        # The judge was at least there when it asked: topics that are behind must not count labels by an older moment.
        clock = max(rows.clock_ms, to_ms(state.request.time))
        maturity = None if settings.labels.maturity == "auto" else settings.labels.maturity
        onset = to_ms(state.request.onset.time)
        positive = settings.labels.positive_class
        statistics = rows.statistics(onset, clock, maturity, positive)
        unfit = None if settings.task != "binary" else misfit(rows.label_texts(clock), positive, whole=False)
        return Survey(statistics, clock, dict(rows.end), unfit)

    def snapshot(self, state: RetrainState) -> Snapshot:
        """Write the snapshot of the recorded offsets, time and maturity, and fetch the champion beside the job.

        Raises ``ArtifactError`` when the champion cannot be had.
        """
        if state.as_of_ms is None or state.maturity_ms is None:
            raise ValueError(f"request {state.id} has no plan to snapshot")
        # First, because it fails most often (a registry away, a version gone), and reading the topics is the long part.
        champion = self._fetch_champion(state)
        rows = self._read(state, state.end_offsets())
        base = self.snapshots.find(champion.snapshot) if champion.snapshot else None
        pieces = rows.pieces(state.as_of_ms, state.maturity_ms, base.path if base else None, state.negatives)
        return self.snapshots.write(
            _with_base(pieces, base, self.snapshots),
            {
                "model": state.model,
                "ranges": describe_ranges(rows.begin, rows.end),
                "as_of": state.as_of_ms,
                "maturity": state.maturity_ms,
                "since": rows.since_ms,
                "base": base.digest if base else None,
                "unusable": rows.columns.unusable,
            },
        )

    def job(self, state: RetrainState) -> TrainingJob | None:
        """Return the training job of a state with a snapshot, None when snapshot or champion are not to be had.

        Of rows from which somebody was erased since, on whichever machine, it is the job on what became of them.
        """
        snapshot = self.snapshots.find(state.snapshot or "")
        champion = self.directory(state) / CHAMPION_DIRECTORY
        # Made again from the recorded offsets, byte for byte, after a move to another machine.
        if snapshot is None or not (champion / CARD_FILE).exists():
            return None
        card = ModelCard.decode((champion / CARD_FILE).read_bytes())
        return TrainingJob.of(
            self.models[state.model].settings,
            asked_share=state.asked_share,
            model=state.model,
            snapshot=snapshot.path.resolve(),
            digest=snapshot.digest,
            windows=state.windows,
            onset_ms=to_ms(state.request.onset.time),
            champion=champion.resolve(),
            champion_until_ms=self._last_time(card.snapshot),
            request=state.id,
            ripe_until_ms=snapshot.ripe_until,
        )

    def directory(self, state: RetrainState) -> Path:
        """Return the directory of a request's files; its name is a hash, for an id from a record is no path."""
        return self.work_dir / content_id("request", state.id)

    def training_directory(self, state: RetrainState) -> Path:
        """Return the directory of the training of the current look."""
        return self.directory(state) / f"look-{state.look}"

    def gate(self, state: RetrainState) -> GateVerdict:
        """Judge the held-out scores that the training wrote; raises ``FileNotFoundError`` when they are gone."""
        if state.result is None:
            raise ValueError(f"request {state.id} has no training result to judge")
        settings = self.models[state.model].settings
        rows = pl.read_parquet(self.training_directory(state) / HELD_OUT_FILE)
        compared = compared_of(rows, state.result, settings)
        rules = settings.gate_rules(aged=state.request.aged, looks=state.request.looks)
        return judge(compared, rules, settings.segment_rules(), settings.limits())

    def register(self, state: RetrainState, named: Collection[str] = ()) -> RegisteredCandidate:
        """Register the challenger after removing what an earlier try left behind, and build its reference.

        ``named`` are the model's versions that the log of rollouts names: they are never removed.
        """
        directory = self.training_directory(state)
        job = TrainingJob.model_validate_json((directory / JOB_FILE).read_text())
        # Here and not when it ended: whatever goes out comes by here, and a registry may have been waited for.
        if self.snapshots.became(job.digest, look=True) != job.digest:
            raise FileNotFoundError(f"somebody was erased from snapshot {job.digest}, which this model has learnt from")
        registered = register_training(
            self.registry,
            self.snapshots,
            directory,
            request=state.id,
            tags=request_tags(state),
            gate=state.gate,
            keep=named,
        )
        reference = reference_of(job, directory, registered.version, self.snapshots, self.build_reference)
        # The rows it has learnt from: where somebody was erased, the request still names those of before.
        now = state.model_copy(update={"clock_ms": self._latest(state), "snapshot": job.digest})
        candidate = candidate_of(now, registered, reference[0], state.champion or state.request.version)
        return RegisteredCandidate(candidate, reference[1], registered.run_id)

    def clean(
        self, state: RetrainState, named: Collection[str] = (), in_work: Callable[[], Collection[str]] = tuple
    ) -> None:
        """Remove what a finished request left: orphaned versions, and the files of its trainings unless it failed.

        ``in_work`` are the snapshots of requests that have not ended. Raises ``Retryable`` while the registry is away,
        and then no snapshot is deleted.
        """
        if state.version is not None:
            self.registry.remove_orphans(state.model, state.id, keep=[state.version, *named], candidate=state.version)
            # Only where a version came of it: a failed training's log is what a person reads next.
            shutil.rmtree(self.directory(state), ignore_errors=True)
        # What the gate has judged nobody reads again, and who is erased on another machine would stay in it here.
        for scores in self.directory(state).glob("look-*/*.parquet"):
            scores.unlink()
        if state.snapshot is not None:
            # In this order: a request that ends in between is either still in work, or the registry knows its version.
            self.snapshots.expire(lambda: {*in_work(), *self.registry.snapshots()})
        self.forget(state.id)

    def forget(self, request: str | None = None) -> None:
        """Let go of the rows read for a request, or for all."""
        for one in [request] if request is not None else list(self._rows):
            if (rows := self._rows.pop(one, None)) is not None:
                rows.close()

    def _latest(self, state: RetrainState) -> int:
        """Return the stream's clock, read on where rows of the request are at hand."""
        clock = self._read(state, None).clock_ms if state.id in self._rows else None
        return max(state.clock_ms, clock or 0)

    def _read(self, state: RetrainState, ends: Mapping[Partition, int] | None) -> LabelledRows:
        inputs = self.models[state.model]
        rows = self._rows.get(state.id)
        if rows is None:
            # Counted from the onset and not from now: the longer labels are waited for, the more of the old world would
            # be lost.
            since = to_ms(state.request.onset.time) - inputs.settings.data.history
            columns = EventColumns(state.model, inputs.future_skew_ms)
            data, labels = inputs.settings.data, inputs.settings.labels
            near = self.directory(state)
            # What a process that was killed had read; this one reads it again.
            for left in near.glob("rows-*"):
                shutil.rmtree(left, ignore_errors=True)
            frames = EventFrames(near)
            limit, positive = data.snapshot_rows, labels.positive_class
            told = LabelTimes(self.kept_since)
            rows = LabelledRows(inputs.topics, columns, since, limit, positive, inputs.absence, told, frames=frames)
            self._rows[state.id] = rows
        # A reader for each step: between two surveys lie minutes to days, and a broker closes idle connections.
        reader = self.open_reader()
        try:
            rows.advance(reader, ends)
        finally:
            reader.close()
        return rows

    def _fetch_champion(self, state: RetrainState) -> ModelCard:
        version = state.champion or state.request.version
        return self.registry.download(state.model, version, self.directory(state) / CHAMPION_DIRECTORY)

    def _last_time(self, digest: str | None) -> int | None:
        try:
            found = self.snapshots.find(digest) if digest else None
        except SnapshotError:
            return None
        last = found.manifest.get("last_labelled") if found else None
        return int(last) if last is not None else None


def compared_of(rows: pl.DataFrame, result: TrainingResult, settings: RetrainSettings) -> Compared:
    """Return what the gate judges: the held-out rows that a training wrote, and what it found out besides."""
    old, new = result.champion_threshold, result.threshold
    if settings.task == "binary" and (old is None or new is None):
        raise ValueError("a classifier without a threshold cannot be judged")
    groups = [name for name in rows.columns if name.startswith(GROUP)]
    return Compared(
        task=settings.task,
        labels=rows["label"].to_numpy(),
        champion=rows["champion"].to_numpy(),
        challenger=rows["challenger"].to_numpy(),
        after=rows["after"].to_numpy(),
        thresholds=(old or 0.0, new.value if new else 0.0),
        groups={name.removeprefix(GROUP): rows[name].to_numpy().astype(str) for name in groups},
        schema=result.changed_inputs,
        measured=result.serving,
        worth=settings.worth(),
        amounts=rows[AMOUNT].to_numpy() if AMOUNT in rows.columns else None,
        weights=rows[WEIGHT].to_numpy() if WEIGHT in rows.columns else None,
        selection=result.selection,
    )


def _with_base(pieces: Iterator[pl.DataFrame], base: Snapshot | None, store: SnapshotStore) -> Iterator[pl.DataFrame]:
    yield from pieces
    # The base was read for up to minutes: an erasure meanwhile knows nothing of a file that is not there yet.
    if base is not None and store.became(base.digest, look=True) != base.digest:
        raise Retryable(f"somebody was erased from {base.digest} while its rows were taken over; they are read again")


def reference_of(
    job: TrainingJob, directory: Path, version: str, snapshots: SnapshotStore, build: ReferenceBuilder
) -> tuple[str, bytes]:
    """Build the reference of a trained version from the rows since the change, labelled or not."""
    card = ModelCard.decode((directory / ARTIFACT_DIRECTORY / CARD_FILE).read_bytes())
    # With @, as the snapshot's own columns: a feature may be called score, and would be taken for the model's answer.
    found = pl.read_parquet(directory / SCORED_FILE)
    scored = found.select(
        EVENT_ID,
        pl.col("score").alias("@score"),
        pl.col("known").alias("@known"),
        # A training that an older build began has none.
        (pl.col("confidence") if "confidence" in found.columns else pl.lit(float("nan"))).alias("@confidence"),
    )
    frame = snapshots.read(job.digest, job.data_rows).join(scored, on=EVENT_ID)
    # The new version's normal is the world after the change; with rows from before it, the change would be drift again.
    recent = frame if job.onset_ms is None else frame.filter(pl.col(TIME) >= job.onset_ms)
    rows = recent.sort(TIME, EVENT_ID)
    return build(
        ReferenceRows(
            model=job.model,
            version=version,
            card=card,
            specs=card.features,
            times=rows[TIME].to_numpy(),
            features=rows.select(card.names),
            scores=rows["@score"].to_numpy(),
            labels=rows["@known"].to_numpy(),
            snapshot=job.digest,
            positive=job.positive,
            confidence=rows["@confidence"].to_numpy(),
        )
    )
