import json
import re
from pathlib import Path

import pytest

from scripts.docs.publish import main, pages, stale
from stationkeeper.contracts.codes import DeadLetterCode
from stationkeeper.contracts.log_events import LogEvent
from stationkeeper.contracts.messages import MESSAGES
from stationkeeper.contracts.metrics import METRICS
from stationkeeper.contracts.topics import Topics

ROOT = Path(__file__).resolve().parents[3]


def test_the_committed_documents_are_fresh():
    assert stale(ROOT) == []


def test_check_names_what_is_stale_missing_or_left_over(tmp_path, capsys):
    assert main([], root=tmp_path) == 0
    assert main(["--check"], root=tmp_path) == 0
    (tmp_path / "docs/events.md").write_text("old")
    (tmp_path / "contracts/schemas/verdict.json").unlink()
    (tmp_path / "contracts/schemas/omen.json").write_text("{}")
    capsys.readouterr()
    assert main(["--check"], root=tmp_path) == 1
    said = capsys.readouterr().err
    assert re.findall(r"^(\S+) is stale", said, re.MULTILINE) == [
        "docs/events.md",
        "contracts/schemas/verdict.json",
        "contracts/schemas/omen.json",
    ]
    assert "python -m scripts.docs.publish" in said
    assert main([], root=tmp_path) == 0
    assert main(["--check"], root=tmp_path) == 0
    assert not (tmp_path / "contracts/schemas/omen.json").exists()


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("docs/events.md", [message.schema_name for message in MESSAGES]),
        ("docs/events.md", [code.value for code in DeadLetterCode]),
        ("docs/events.md", [event.value for event in LogEvent]),
        ("docs/events.md", [topic.name for topic in Topics("<prefix>").all()]),
        ("docs/metrics.md", [metric.name for metric in METRICS]),
    ],
)
def test_the_pages_hold_every_member_of_the_closed_lists(page, words):
    text = pages()[Path(page)]
    assert [word for word in words if word not in text] == []


def test_every_message_has_a_schema_that_names_itself():
    for message in MESSAGES:
        schema = json.loads(pages()[Path(f"contracts/schemas/{message.schema_name}.json")])
        assert schema["$id"] == f"urn:stationkeeper:{message.schema_name}:1"
        assert schema["title"] == message.__name__
