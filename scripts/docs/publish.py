"""Write the documents that are made from the contracts: ``python -m scripts.docs.publish [--check]``."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from scripts.docs.acls import rights_page
from scripts.docs.asyncapi import document
from scripts.docs.chart import kafka_objects, values_schema
from scripts.docs.pages import events_page, metrics_page
from scripts.docs.settings import settings_page
from stationkeeper.contracts.messages import MESSAGES, Message
from stationkeeper.registry import ModelCard

MESSAGES_VERSION: Final = "1.0.0"
"""The version of the messages: the first number changes when a reader of the old ones would fail."""

_MESSAGES: tuple[type[Message], ...] = (*MESSAGES, ModelCard)
_SCHEMAS = Path("contracts/schemas")
_CHART = Path("ops/helm/stationkeeper")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _schema(message: type[Message]) -> str:
    schema = message.model_json_schema()
    return _text({"$schema": _DIALECT, "$id": f"urn:stationkeeper:{message.schema_name}:1", **schema})


def pages() -> dict[Path, str]:
    """Return the text of each generated file by its path below the repository's root."""
    return {
        Path("docs/events.md"): events_page(),
        Path("docs/metrics.md"): metrics_page(),
        Path("docs/kafka-rights.md"): rights_page(),
        Path("docs/settings.md"): settings_page(),
        Path("contracts/asyncapi.json"): _text(document(MESSAGES_VERSION)),
        _CHART / "values.schema.json": _text(values_schema()),
        _CHART / "files/kafka.json": _text(kafka_objects()),
        **{_SCHEMAS / f"{message.schema_name}.json": _schema(message) for message in _MESSAGES},
    }


def stale(root: Path) -> list[Path]:
    """Return the generated files that are absent, differ from what would be written, or are no longer made."""
    wanted = pages()
    found = [
        path
        for path, text in wanted.items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    ]
    kept = {path.relative_to(root) for path in (root / _SCHEMAS).glob("*.json")}
    return found + sorted(kept - wanted.keys())


def write(root: Path) -> list[Path]:
    """Write what is stale and remove schemas of messages that are gone; returns the paths touched."""
    wanted = pages()
    touched = stale(root)
    for path in touched:
        if path in wanted:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(wanted[path], encoding="utf-8")
        else:
            (root / path).unlink()
    return touched


def main(arguments: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Write the files, or with ``--check`` name the stale ones and return 1."""
    parser = argparse.ArgumentParser(prog="python -m scripts.docs.publish", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file is stale")
    check = parser.parse_args(arguments).check
    root = root or Path(__file__).resolve().parents[2]
    if not check:
        for path in write(root):
            sys.stdout.write(f"wrote {path}\n")
        return 0
    old = stale(root)
    for path in old:
        sys.stderr.write(f"{path} is stale; run `python -m scripts.docs.publish`\n")
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
