"""What the name of a column or a path says of its part: a time, a score, a label."""

import re
from collections.abc import Iterable
from typing import Final

from stationkeeper.events import PathKeys

# The first name is the likeliest: `id` is taken only where no other is there.
NAMES: Final[dict[str, tuple[str, ...]]] = {
    "event_id": (
        *("event_id", "eventid", "request_id", "requestid", "inference_id", "prediction_id", "transaction_id"),
        *("uuid", "id"),
    ),
    "time": (
        *("event_time", "eventtime", "time", "timestamp", "ts", "datetime", "date", "occurred_at", "created_at"),
        *("created", "when"),
    ),
    "model": ("model_name", "modelname", "model_id", "model"),
    "version": (
        *("model_version", "modelversion", "model_rev", "model_revision", "model_ver", "model_tag", "model_build"),
        *("version", "revision", "rev", "ver"),
    ),
    "prediction": (
        *("prediction", "score", "probability", "proba", "probabilities", "probs", "y_pred", "y_hat", "predicted"),
        *("output", "pred"),
    ),
    "label": ("label", "target", "y_true", "truth", "actual", "outcome", "ground_truth", "y"),
}
# What a time is named after besides: scored_at, request_ts, bookedOn.
TIME_ENDINGS: Final = frozenset({"at", "on", "time", "timestamp", "ts", "date", "datetime"})
# What a score's name ends with where it is called after what it says: fraud_score, churnProbability; or begins with:
# p_bad, prob_default.
_SCORES: Final = frozenset({"score", "probability", "proba", "prob", "prediction", "pred"})
_SHARE_OF: Final = frozenset({"prob", "proba", "probability"})
# What a `p` stands before where the column of the truth has another name or none. Without such a word `p_value` (a
# test's) and `p_e_ratio` (a price's) would be watched as the prediction; a word that is not here is asked about.
_OUTCOMES: Final = frozenset(
    {
        *(
            "bad",
            "good",
            "default",
            "fraud",
            "churn",
            "spam",
            "click",
            "purchase",
            "buy",
            "conversion",
            "cancel",
            "lapse",
        ),
        *(
            "claim",
            "failure",
            "fail",
            "loss",
            "win",
            "death",
            "disease",
            "positive",
            "true",
            "yes",
            "1",
            "event",
            "late",
        ),
    }
)
# Letters of what a score is named after, chosen: of fewer (is, p, my) many a column's name begins so by chance.
_STEM: Final = 4
# What a label's name begins with where it is a question: is_fraud, was_default, did_churn.
_ASKED: Final = frozenset({"is", "was", "did"})
# How a score's word ends where it came true: churned, purchased, churner, fraudulent. Any other word behind it, as in
# credit_card or customer_active, names a property, and the truth (bad, paid) would be watched as a feature.
_HAPPENED: Final = "(?:ed|d|er|r|ing|ulent)"
# A label within the answer is what the model said, not what turned out to be true.
_ANSWERS: Final = frozenset({"prediction", "predictions", "output", "outputs", "result", "response", "answer"})


def words_of(name: str) -> str:
    """Return a name in lower case with one underscore between its words: ``modelRev`` -> ``model_rev``."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return re.sub(r"[^a-z0-9]+", "_", parted).strip("_")


def score_stem(score: str) -> list[str]:
    """Return the words that a score is named after: ``churn_score`` -> ``churn``."""
    return [word for word in words_of(score).split("_") if word not in _SCORES and len(word) >= _STEM]


def names_score(path: PathKeys, of_two: Iterable[str]) -> bool:
    """Return whether the last key is a score's name: churn_score, prob_x; p_bad, or p_x beside x ``of_two`` values."""
    first, _, rest = words_of(path[-1]).partition("_")
    if ending(path) in _SCORES or (rest and first in _SHARE_OF):
        return True
    return first == "p" and (
        _asked(rest) in _OUTCOMES
        or any(_asked(words_of(name)) == _asked(rest) or says_it_happened(name, rest, alone=False) for name in of_two)
    )


def _asked(words: str) -> str:
    first, _, rest = words.partition("_")
    return rest if first in _ASKED else words


def ending(path: PathKeys) -> str:
    """Return the last word of a field's name."""
    return words_of(path[-1]).rpartition("_")[2]


def likelihood(field: str, path: PathKeys) -> int | None:
    """Return how likely a path is this field by its name, 0 the likeliest, None for not at all."""
    if field == "kind":
        return 0 if len(path) <= 2 else None
    # A flat record's keys often hold their path: `req.id` is as `id` within `req`.
    *above, last = [words_of(word) for key in path for word in key.split(".") if word] or [""]
    if field == "label" and _ANSWERS.intersection(above):
        return None
    names = NAMES[field]
    both = f"{above[-1]}_{last}" if above else last
    for name in (both, last):
        if name in names:
            return names.index(name)
    return len(names) if field == "time" and ending(path) in TIME_ENDINGS else None


def says_it_happened(name: str, score: str, *, alone: bool) -> bool:
    """Return whether a name says that what a score is about came true; see ``_Field.is_truth_of``."""
    stem, word = "_".join(score_stem(score)), _asked(words_of(name))
    if alone:
        word = word.removeprefix("has_")
    return bool(stem) and re.fullmatch(f"{stem}(?:{stem[-1]}?{_HAPPENED})?", word) is not None
