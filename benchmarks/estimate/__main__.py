"""How often the truth lies within the estimate without labels, by what changed; NannyML's CBPE on the same rows.

``python -m benchmarks estimate [--windows N] [--nannyml PYTHON]``. PYTHON is an interpreter of an environment that has
nannyml (``uv venv E && uv pip install --python E/bin/python nannyml statsmodels``); without it that column stays empty.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stationkeeper.contracts.wire import SCORE_BINS, score_bin
from stationkeeper.monitor.core.performance import TOLERANCE, Measure, estimate, refreshed
from stationkeeper.monitor.core.reference import Labels, Task, labels_of

Floats = npt.NDArray[np.float64]
Rows = tuple[Floats, npt.NDArray[np.bool_]]

# A day of a small model, as NannyML's own examples take: what an estimate is for, labels being late.
WINDOW = 1_000
# The references of STATISTICS.md, section 10.7, and one ten times as large.
REFERENCES = (500, 5_000)
# By name: shift of the log-odds (the mix of inputs), and of the truth at each score (the concept), now and in the
# calm weeks before.
CHANGES = {
    "nothing": (0.0, 0.0, 0.0),
    "inputs +.5": (0.5, 0.0, 0.0),
    "inputs -1": (-1.0, 0.0, 0.0),
    "concept +.5": (0.0, 0.5, 0.0),
    "concept +.1 for weeks": (0.0, 0.1, 0.1),
}
# Mature labels of the calm weeks that refresh the calibration: two hundred a day.
LIVE = 4 * 7 * 200
# Of three classes: by how much harder inputs are to tell apart (sd of the log-odds), and the share of truths that
# became another class.
SEVERAL = {"nothing": (0.0, 0.0), "harder inputs": (0.8, 0.0), "easier inputs": (-1.0, 0.0), "concept": (0.0, 0.1)}
# Too sure by so much: a model whose scores need calibration, as most do.
SLOPE = 0.7
MEASURES = ("precision", "recall", "accuracy", "f1")

_PEER = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import numpy as np, pandas as pd, nannyml as nml
data = np.load(sys.argv[1])
names = ["precision", "recall", "accuracy", "f1"]
out = []
for i in range(len(data["known_score"])):
    def frame(part):
        score, truth = data[part + "_score"][i], data[part + "_truth"][i]
        return pd.DataFrame({"p": score, "y_pred": (score >= .5).astype(int), "y": truth.astype(int)})
    known, rows = frame("known"), frame("now")
    made = nml.CBPE(problem_type="classification_binary", y_pred_proba="p", y_pred="y_pred", y_true="y",
                    metrics=names, chunk_size=len(rows))
    result = made.fit(known).estimate(rows).filter(period="analysis").to_df()
    one = {}
    for name in names:
        part = result[name].iloc[0]
        one[name] = [float(part[key]) for key in ("value", "lower_confidence_boundary", "upper_confidence_boundary")]
    out.append(one)
json.dump(out, sys.stdout)
"""


def rows(rng: np.random.Generator, count: int, shift: float, concept: float) -> Rows:
    """Draw scores and truths."""
    odds = rng.normal(-1.0 + shift, 1.5, count)
    return 1 / (1 + np.exp(-odds)), rng.random(count) < 1 / (1 + np.exp(-SLOPE * odds - concept))


def several(rng: np.random.Generator, count: int, shift: float, concept: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Draw the probability of each answer of three classes, and whether it was right.

    ``shift`` makes inputs harder to tell apart; ``concept`` is the share of truths that became another class.
    """
    odds = rng.normal(0.0, 2.0 - shift, (count, 3))
    shares, true = (np.exp(part) / np.exp(part).sum(1, keepdims=True) for part in (odds, SLOPE * odds))
    truth = np.minimum((rng.random((count, 1)) > true.cumsum(1)).sum(1), 2)
    truth = np.where(rng.random(count) < concept, (truth + 1) % 3, truth)
    return shares.max(1), shares.argmax(1) == truth


def several_row(size: int, windows: int, shift: float, concept: float) -> str:
    """Return how often the accuracy of three classes lies within the estimate, how far off it was, and the loss."""
    rng = np.random.default_rng(7)
    within, off, moved = [], [], []
    for _ in range(windows):
        sure, right = several(rng, size, 0.0, 0.0)
        at = score_bin(sure)
        scored = np.stack([np.bincount(at[right == one], minlength=SCORE_BINS) for one in (False, True)], axis=1)
        known = Labels(scored, np.array([0, int((~right).sum()), 0, int(right.sum())]), several=True)
        sure, now = several(rng, WINDOW, shift, concept)
        found = estimate(np.bincount(score_bin(sure), minlength=SCORE_BINS), known, 0.5).measures["accuracy"]
        within.append(found.low <= now.mean() <= found.high)
        off.append(abs(found.value - now.mean()))
        moved.append(right.mean() - now.mean())
    return f"{np.mean(within):.0%}, {np.mean(off):.3f} | {np.mean(moved):+.3f}"


def realised(score: Floats, truth: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return what labels say."""
    called = score >= 0.5
    hits = float((called & truth).sum())
    return {
        "precision": hits / max(float(called.sum()), 1.0),
        "recall": hits / max(float(truth.sum()), 1.0),
        "accuracy": float((called == truth).mean()),
        "f1": 2 * hits / max(float(called.sum() + truth.sum()), 1.0),
    }


def peer(python: Path, known: list[Rows], now: list[Rows]) -> list[dict[str, Floats]]:
    """Return the estimates (value, low, high) of NannyML on the same rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        np.savez(
            path,
            known_score=np.array([score for score, _ in known]),
            known_truth=np.array([truth for _, truth in known]),
            now_score=np.array([score for score, _ in now]),
            now_truth=np.array([truth for _, truth in now]),
        )
        done = subprocess.run([str(python), "-c", _PEER, str(path)], capture_output=True, text=True, check=True)
    return [{name: np.array(three) for name, three in one.items()} for one in json.loads(done.stdout.splitlines()[-1])]


def cells_of(found: list[dict[str, Measure]], real: list[dict[str, float]]) -> list[str]:
    """Return for each measure how often the truth lies within the estimates, and how far these are off."""
    cells = []
    for name in MEASURES:
        pairs = [(f[name], r[name]) for f, r in zip(found, real, strict=True)]
        inside, off = [f.low <= r <= f.high for f, r in pairs], [abs(f.value - r) for f, r in pairs]
        cells.append(f"{np.mean(inside):.0%}, {np.mean(off):.3f}")
    return cells


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--nannyml", type=Path)
    options = parser.parse_args()
    print("| reference | change | " + " | ".join(f"{name}: within, off" for name in MEASURES) + " | CBPE |")
    print("|---|---|" + "---|" * (len(MEASURES) + 1))
    for size in REFERENCES:
        for change, (shift, concept, before) in CHANGES.items():
            rng, weeks = np.random.default_rng(7), np.random.default_rng(8)
            known = [rows(rng, size, 0.0, 0.0) for _ in range(options.windows)]
            now = [rows(rng, WINDOW, shift, concept) for _ in range(options.windows)]
            real = [realised(*one) for one in now]
            plain, fresh = [], []
            for (old, told), (score, _) in zip(known, now, strict=True):
                labels = labels_of(old, told.astype(float), Task.BINARY, 0.5, "1")
                came, truth = rows(weeks, LIVE, 0.0, before)
                live = labels_of(came, truth.astype(float), Task.BINARY, 0.5, "1").scored
                counts = np.bincount(score_bin(score), minlength=SCORE_BINS)
                plain.append(estimate(counts, labels, 0.5).measures)
                fresh.append(estimate(counts, refreshed(labels, live, TOLERANCE), 0.5).measures)
            theirs = "not run"
            if options.nannyml is not None:
                guesses = peer(options.nannyml, known, now)
                shares = []
                for name in MEASURES:
                    pairs = list(zip(guesses, real, strict=True))
                    inside = [g[name][1] <= r[name] <= g[name][2] for g, r in pairs]
                    off = [abs(g[name][0] - r[name]) for g, r in pairs]
                    shares.append(f"{np.mean(inside):.0%}, {np.mean(off):.3f}")
                theirs = "; ".join(shares)
            for side, found in ((f"{size}", plain), (f"{size}, refreshed", fresh)):
                print(f"| {side} | {change} | {' | '.join(cells_of(found, real))} | {theirs} |", flush=True)
    print("\n| reference | change, of three classes | accuracy: within, off | accuracy lost |\n|---|---|---|---|")
    for size in REFERENCES:
        for change, (shift, concept) in SEVERAL.items():
            print(f"| {size} | {change} | {several_row(size, options.windows, shift, concept)} |", flush=True)


if __name__ == "__main__":
    main()
