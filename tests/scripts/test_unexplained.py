import pytest

from scripts.unexplained import unexplained


@pytest.mark.parametrize(
    "source",
    [
        "# Kafka's own default; half of it rebalances at each pause of the collector.\nSESSION_MS = 10_000\n",
        'SESSION_MS = 10_000\n"""Kafka\'s own default."""\n',
        "# Bins of the cards: below 5 a count is noise.\nFEW = 5\nMANY = 50\n",
        "NAMES = ('a', 'b')\nlower = 3\nON = True\n",
        "class FetchSettings:\n    # A slow answer.\n    timeout: int = 5_000\n    name: str = 'x'\n",
        "class Found:\n    rows: int = 0\n",
    ],
)
def test_a_number_with_its_why_or_no_number_passes(source: str):
    assert unexplained(source) == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("SESSION_MS = 10_000\n", ["SESSION_MS"]),
        ("# Why.\nA = 1\n\nB = 2\n", ["B"]),
        ("_EDGES = (0.1, 0.5)\n", ["_EDGES"]),
        ("class Rule:\n    LIMIT: int = 3\n", ["LIMIT"]),
        ("DAY_MS = 24 * HOUR_MS\n", ["DAY_MS"]),
        ("class FetchSettings:\n    timeout: Annotated[int, Field(ge=1)] = 5_000\n", ["timeout"]),
    ],
)
def test_a_number_without_its_why_is_named(source: str, names: list[str]):
    assert [name for _, name in unexplained(source)] == names
