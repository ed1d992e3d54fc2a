"""The quality gate for a pipeline: a registered version against another on a stored snapshot's held-out rows."""

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from stationkeeper.contracts.messages import GateOutcome
from stationkeeper.contracts.times import to_ms
from stationkeeper.registry import ArtifactError, ModelTask, Registry, load_scorer
from stationkeeper.retrain.core.gate import GateVerdict, judge_binary, judge_regression
from stationkeeper.retrain.core.split import split_rows
from stationkeeper.retrain.settings import RetrainSettings
from stationkeeper.retrain.snapshot import SnapshotStore, TrainingTable

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

    @property
    def exit_code(self) -> int:
        """0 for PASS, 1 for FAIL, 3 for NO-EVIDENCE."""
        return EXIT_CODES[self.verdict.outcome]

    def text(self) -> str:
        """Return one line for a person."""
        name = self.verdict.outcome.value.upper().replace("_", "-")
        against = f"{self.model} {self.candidate} against {self.champion} on {self.rows} held-out rows"
        return f"{name}: {against} of {self.snapshot[:12]}: {self.verdict.reason}"

    def to_json(self) -> dict[str, Any]:
        """Return every number."""
        facts = {name: value for name, value in asdict(self).items() if name != "verdict"}
        verdict = self.verdict
        return facts | {"outcome": verdict.outcome.value, "reason": verdict.reason, "numbers": verdict.numbers}


def gate_version(
    registry: Registry,
    store: SnapshotStore,
    settings: RetrainSettings,
    *,
    model: str,
    candidate: str,
    champion: str,
    snapshot: str,
) -> GateReport:
    """Judge version ``candidate`` against ``champion`` (an alias or a version) on a snapshot.

    On the snapshot that the candidate was trained on, the rows are those its training held out; on any other, the
    rows after all that either model has learnt from. Raises ``ArtifactError``, ``SnapshotError``, ``BadData``, and
    ``Retryable`` while the registry is away.
    """
    version = registry.alias(model, champion) or champion
    frame = store.read(snapshot)
    with TemporaryDirectory(prefix="stationkeeper-gate-") as scratch:
        registry.download(model, candidate, Path(scratch) / "candidate")
        registry.download(model, version, Path(scratch) / "champion")
        new, old = load_scorer(Path(scratch) / "candidate"), load_scorer(Path(scratch) / "champion")
        if new.card.task is not old.card.task or new.card.task is ModelTask.MULTICLASS:
            raise ArtifactError(
                f"version {candidate} is {new.card.task.value}, {version} is {old.card.task.value}; the gate compares "
                "two binary or two regression models"
            )
        table = TrainingTable.of(frame, new.card.task, settings.labels.positive_class)
        rows = np.flatnonzero(table.known)
        times = table.times[rows]
        onset = _onset(registry, model, candidate, int(times[0]))
        if snapshot == new.card.snapshot:
            judged = split_rows(times, onset, settings.windows.holdout, settings.windows.validation).judged
        else:
            learnt = [store.find(card.snapshot) for card in (new.card, old.card) if card.snapshot]
            last = max((int(found.manifest["last_labelled"]) for found in learnt if found is not None), default=None)
            judged = np.ones(len(rows), bool) if last is None else times > last
        chosen = rows[judged]
        features, after = table.features[chosen], table.times[chosen] >= onset
        # While the files are there: a champion of another MLflow flavour is read by a process of its own.
        scores_old, scores_new = old.score(features), new.score(features)
    rules = settings.gate_rules()
    if new.card.task is ModelTask.REGRESSION:
        verdict = judge_regression(table.labels[chosen], scores_old, scores_new, after, rules)
    else:
        pair = ((scores_old, old.card.threshold), (scores_new, new.card.threshold))
        verdict = judge_binary(table.labels[chosen] == 1.0, *pair, after, rules)
    return GateReport(model, candidate, version, snapshot, len(chosen), verdict)


def _onset(registry: Registry, model: str, candidate: str, first: int) -> int:
    """Return when the change began that the candidate was trained for; without one every row is after it."""
    text = registry.tags(model, candidate).get("onset")
    return to_ms(datetime.fromisoformat(text)) if text else first
