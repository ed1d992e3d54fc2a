"""A table of past predictions: which column is which, and how its values are to be read, as the table itself tells."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stationkeeper.contracts.column import categories
from stationkeeper.events import ValueRules
from stationkeeper.init.classes import ValueGuess, positive_guess
from stationkeeper.init.infer import ColumnRoles, Sketch, sketch_table
from stationkeeper.tables import WRITTEN, InputTable, Parts, read_table

# A table shows an odd cell in thousands, a sample of events does not; more than this is a matter for `profile`.
_ROWS = 20_000


def sketch_past(path: Path, rules: ValueRules, roles: ColumnRoles, positive: str | None) -> Sketch:
    """Look at the first rows of a table, read by ``rules`` and by what its own columns ask for.

    Where all numbers that are written as text use one decimal mark it is taken, and columns whose digits begin with
    zeros stay text. Raises ``TableRefused`` and ``InitError``.
    """
    parts = Parts(time=roles.fields.get("time"))
    table = read_table(path, rules, parts, rows=_ROWS)
    # What a person said comes first in the file and is never guessed over.
    told = dict.fromkeys(rules.model_dump(exclude_defaults=True), "as you say")
    zeros = tuple(one.name for one in table.readings if one.note.startswith("leading zeros"))
    if set(zeros) - set(rules.text):
        rules = rules.model_copy(update={"text": (*rules.text, *(name for name in zeros if name not in rules.text))})
        told["text"] = f"{zeros[0]!r} begins with zeros"
    written = [one for one in table.readings if one.blind == WRITTEN]
    marks = {tuple(re.findall(r"--decimal (\S)", one.option)) for one in written}
    if rules.decimal is None and len(marks) == 1 and len(mark := marks.pop()) == 1:
        marked = rules.model_copy(update={"decimal": mark[0]})
        again = read_table(path, marked, parts, rows=_ROWS)
        # One mark is for the whole file: where it would make text of other columns, a person must say which stay out.
        if _numbers(table) <= _numbers(again):
            rules, table = marked, again
            told["decimal"] = f"{written[0].name!r} holds numbers {written[0].note}"
    values = tuple(ValueGuess(name, getattr(rules, name), why) for name, why in told.items())
    sketch = sketch_table(table, roles)
    return replace(sketch, values=values, positive=_positive(table, sketch, positive))


def _numbers(table: InputTable) -> set[str]:
    return {reading.name for reading in table.readings if reading.kind == "number"}


def _positive(table: InputTable, sketch: Sketch, told: str | None) -> ValueGuess | None:
    """Return the class that scores are about, None in the guess's value where the table does not tell it."""
    # The person's word is taken even where the column holds it nowhere: `profile` refuses it with the values there are.
    if told is not None:
        return ValueGuess("positive", told, "as you say")
    label, answer = sketch.guess("label"), sketch.guess("prediction")
    values = None if label is None else table.columns.get(label.path)
    if values is None:
        return None
    scores: Any = None if answer is None else table.columns.get(answer.path)
    numeric = isinstance(scores, np.ndarray) and scores.dtype.kind == "f"
    return positive_guess(categories(values), scores if numeric else None)
