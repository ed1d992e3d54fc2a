"""What label texts mean to a model of two classes: which are the positive class, and why others cannot be learnt."""

from collections.abc import Collection

from stationkeeper.contracts.column import same_class

# Chosen: enough to recognise a column by, few enough for one line.
_SHOWN = 10


def positive_texts(texts: Collection[str], positive: str) -> frozenset[str]:
    """Return the texts that spell the positive class: of 0, 1, false and true against ``true`` they are 1 and true."""
    return frozenset(text for text in texts if same_class(text, positive))


def misfit(texts: Collection[str], positive: str, *, whole: bool) -> str | None:
    """Return in words why labels with these texts give no model of two classes, None where they may.

    ``whole`` says that no label is still to come: then one class is a fault as well, before it only says that the other
    is rare. By hand: ``{"0", "1", "false"}`` against ``true`` are two classes; ``{"legit", "fraud"}`` are not.
    """
    yes = positive_texts(texts, positive)
    others: list[str] = []
    # Sorted, so that the same labels give the same words and a request's detail does not change at each survey.
    for text in sorted(set(texts) - yes):
        if not any(same_class(text, other) for other in others):
            others.append(text)
    # One spelling beside the positive class is two classes; none yet may only mean that the labels of the other are
    # late.
    if len(others) < 2 and (not whole or (yes and others)):
        return None
    shown = ", ".join(repr(text) for text in sorted(texts)[:_SHOWN]) or "none"
    return (
        f"a binary model needs two classes, {positive!r} and one other; the labels are {shown}. Set positive: of the "
        "model to the label's own word"
    )
