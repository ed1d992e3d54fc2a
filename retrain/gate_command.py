"""The quality gate for a pipeline: a registered version against another on a stored snapshot's held-out rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from stationkeeper.contracts.messages import AGEING, SCHEDULE, GateOutcome, Shadow
from stationkeeper.contracts.times import to_ms
from stationkeeper.registry import ArtifactError, Engine, Registry, load_scorer
from stationkeeper.retrain.core.gate import GateVerdict
from stationkeeper.retrain.core.split import split_rows
from stationkeeper.retrain.core.verdict import Compared, judge
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot import Snapshot, SnapshotStore, TrainingTable
from stationkeeper.retrain.training.export import schema_changes, serving_cost
from stationkeeper.retrain.training.scored_rows import decided
from stationkeeper.retrain.training.shadow import shadow_of

# 2 is left out: it is what a shell command answers to wrong usage.
EXIT_CODES = {GateOutcome.PASS: 0, GateOutcome.FAIL: 1, GateOutcome.NO_EVIDENCE: 3}


@dataclass(frozen=True, slots=True)
class GateReport:
    """The gate's verdict with what was compared."""

    model: str
    candidate: str
    champion: str
    snapshot: str
    rows: int
    verdict: GateVerdict
    shadow: Shadow | None = None

    @property
    def exit_code(self) -> int:
        """0 for PASS, 1 for FAIL, 3 for NO-EVIDENCE."""
        return EXIT_CODES[self.verdict.outcome]

    def text(self) -> str:
        """Return the verdict and what the candidate answers otherwise, a line each, for a person."""
        name = self.verdict.outcome.value.upper().replace("_", "-")
        against = f"{self.model} {self.candidate} against {self.champion} on {self.rows} held-out rows"
        said = f"{name}: {against} of {self.snapshot[:12]}: {self.verdict.reason}"
        return said if self.shadow is None else f"{said}\nshadow: {self.shadow.words()}"

    def to_json(self) -> dict[str, Any]:
        """Return every number."""
        facts = {name: getattr(self, name) for name in ("model", "candidate", "champion", "snapshot", "rows")}
        verdict = self.verdict
        shadow = None if self.shadow is None else self.shadow.model_dump(mode="json")
        facts |= {"outcome": verdict.outcome.value, "reason": verdict.reason, "numbers": verdict.numbers}
        return facts | {"shadow": shadow}


def gate_version(
    registry: Registry,
    store: SnapshotStore,
    settings: RetrainSettings,
    *,
    model: str,
    candidate: str,
    champion: str,
    snapshot: str,
    learnt_until: int | None = None,
) -> GateReport:
    """Judge version ``candidate`` against ``champion`` (an alias or a version) on a snapshot.

    On the snapshot that the candidate was trained on, the rows are those its training held out; on any other, the
    rows after all that either model has learnt from. ``learnt_until`` (epoch ms) says it of a candidate whose card does
    not, as of one that another pipeline has trained: without it there is no evidence, for nobody knows which rows are
    new to it. Raises ``ArtifactError``, ``SnapshotError``, ``BadData``, and
    ``Retryable`` while the registry is away.
    """
    version = registry.alias(model, champion) or champion
    frame = store.read(snapshot, settings.data.max_rows)
    with TemporaryDirectory(prefix="stationkeeper-gate-") as scratch:
        registry.download(model, candidate, Path(scratch) / "candidate")
        registry.download(model, version, Path(scratch) / "champion")
        new, old = load_scorer(Path(scratch) / "candidate"), load_scorer(Path(scratch) / "champion")
        if new.card.task is not old.card.task:
            raise ArtifactError(
                f"version {candidate} is {new.card.task.value}, {version} is {old.card.task.value}; the gate compares "
                "two models of one kind"
            )
        segments = (settings.segment_features(), settings.gate.protected, settings.gate.sensitive)
        amount = settings.gate.amount if settings.gate.value is not None else None
        others = () if amount is None else (amount,)
        table = TrainingTable.of(frame, new.card.task, settings.labels.positive_class, segments=segments, others=others)
        rows = np.flatnonzero(table.known)
        times = table.times[rows]
        # What its training wrote down, for whoever judges it again.
        tags = registry.tags(model, candidate)
        onset = _onset(tags, int(times[0]))
        # By what is there now: either digest may be that of before a person was erased.
        own, asked = (store.find(one) if one else None for one in (new.card.snapshot, snapshot))
        theirs = store.find(old.card.snapshot) if old.card.snapshot else None
        if own is not None and asked is not None and own.digest == asked.digest:
            held, validation = _held_out(tags, settings)
            judged = split_rows(times, onset, held, validation, learnt_until=_learnt_until(tags, theirs)).judged
        else:
            mine = learnt_until if own is None else int(own.manifest["last_labelled"] or 0)
            if mine is None:
                return GateReport(model, candidate, version, snapshot, 0, _unknown_past(candidate))
            # What the champion has learnt may be unknown: rows that it knows speak for it, never for the candidate.
            judged = times > max(mine, 0 if theirs is None else int(theirs.manifest["last_labelled"] or 0))
        chosen = rows[judged]
        features = table.features[chosen]
        # While the files are there: a champion of another MLflow flavour is read by a process of its own.
        pair = table.scores_by(old), table.scores_by(new)
        # Without a change it is of all rows, also of those before the first label.
        since = onset if tags.get("onset") else None
        selected = table.selected(since, None if asked is None else asked.ripe_until, pair[0])
        # What runs beside its own process has no time of one row that means anything elsewhere.
        timed = new.card.engine is Engine.ONNX
        measured = serving_cost(Path(scratch) / "candidate", features) if timed and len(features) else {}
    compared = Compared(
        task=new.card.task.value,
        labels=table.labels[chosen],
        champion=pair[0][chosen],
        challenger=pair[1][chosen],
        after=table.times[chosen] >= onset,
        thresholds=(old.card.threshold, new.card.threshold),
        groups=table.groups_at(chosen),
        schema=schema_changes(old.card.features, new.card.features),
        measured=measured,
        worth=settings.worth(),
        amounts=None if amount is None else table.amounts(amount)[chosen],
        weights=None if selected is None else selected.weights[chosen],
        selection=decided(selected, new.card.task, pair, (old.card.threshold, new.card.threshold)),
    )
    rules = settings.gate_rules(aged=tags.get("cause") in {AGEING, SCHEDULE}, looks=int(tags.get("looks") or 0) or None)
    verdict = judge(compared, rules, settings.segment_rules(), settings.limits())
    fresh = np.zeros(len(table.times), bool)
    # Who was right is told of rows that the champion is known not to have learnt from alone, as after a training.
    fresh[chosen] = theirs is not None and table.times[chosen] > int(theirs.manifest["last_labelled"] or 0)
    shadow = shadow_of(table, new.card.task, onset, pair, compared.thresholds, fresh)
    return GateReport(model, candidate, version, snapshot, len(chosen), verdict, shadow[0] if shadow else None)


def _unknown_past(candidate: str) -> GateVerdict:
    reason = (
        f"which rows version {candidate} has learnt from is not known: its snapshot is not here, or it was trained "
        "elsewhere; say --learnt-until TIME, the last time among its training rows"
    )
    return GateVerdict(GateOutcome.NO_EVIDENCE, reason, {})


def _held_out(tags: Mapping[str, str], settings: RetrainSettings) -> tuple[float, float]:
    """Return the shares that the candidate's training held out and validated on; of older builds those of today."""
    text = tags.get("held_out")
    if not text:
        return settings.windows.holdout, settings.windows.validation
    held, validation = text.split()
    return float(held), float(validation)


def _learnt_until(tags: Mapping[str, str], champion: Snapshot | None) -> int | None:
    """Return from when on rows are new to both: to the candidate's guard and to the champion named now.

    The training kept as its guard what was new to its own champion, and taught the rest: an older champion, or one
    whose snapshot is gone, would be compared on rows that the candidate has learnt from. None where nobody knows.
    """
    known = [] if champion is None else [int(champion.manifest["last_labelled"] or 0)]
    if text := tags.get("champion_until"):
        known.append(int(text))
    return max(known, default=None)


def _onset(tags: Mapping[str, str], first: int) -> int:
    """Return when the change began that the candidate was trained for; without one every row is after it."""
    text = tags.get("onset")
    return to_ms(datetime.fromisoformat(text)) if text else first
