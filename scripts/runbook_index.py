"""Write docs/runbooks.md, the index of the runbooks, from the alert rules: ``python -m scripts.runbook_index``.

Each alert has a page of its own under docs/runbooks, written by hand and named like the alert.
"""

import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "ops" / "prometheus" / "rules" / "stationkeeper.yml"
INDEX = ROOT / "docs" / "runbooks.md"
PAGES = ROOT / "docs" / "runbooks"

HEAD = """<!-- Written by scripts/runbook_index.py from the alert rules; `make docs` writes it again. -->
# Runbooks

A page for each alert: what it means, the first command to type and what it prints, how to tell the causes apart,
what to do, what comes if nothing is done, when to silence it. What is printed was printed by real runs on a real
broker (2026-11-29, `demo fraud` and faults put into it), shortened only where a page says so. Four page:
[StationkeeperIncident](runbooks/StationkeeperIncident.md), once for a model,
[StationkeeperAbsent](runbooks/StationkeeperAbsent.md), when nothing judges at all,
[StationkeeperInputStopped](runbooks/StationkeeperInputStopped.md) and
[StationkeeperModelRefused](runbooks/StationkeeperModelRefused.md); everything else warns. Thresholds of
drift are not in the rules: they come with the metrics and belong to the budget `false_pages` of the model.

In the commands `--config FILE` is left out; `STATIONKEEPER_CONFIG=FILE` does the same. The status page is at
`http://HOST:9101/`.

| alert | severity | means |
|---|---|---|
"""


def page() -> str:
    """Return the index: a line for each alert with the first sentence of its page."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    lines = []
    for rule in (rule for group in groups for rule in group["rules"] if "alert" in rule):
        name, severity = rule["alert"], rule["labels"]["severity"]
        text = (PAGES / f"{name}.md").read_text(encoding="utf-8").split("## What it means\n\n", 1)[1]
        sentence = " ".join(text.split("\n\n", 1)[0].split()).rstrip(".").replace("](../", "](")
        lines.append(f"| [{name}](runbooks/{name}.md) | {severity} | {sentence}. |")
    return HEAD + "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write the index, or with ``--check`` say whether it is stale."""
    wanted = page()
    if INDEX.exists() and INDEX.read_text(encoding="utf-8") == wanted:
        return 0
    if "--check" in arguments:
        print(f"{INDEX.relative_to(ROOT)} is stale", file=sys.stderr)
        return 1
    INDEX.write_text(wanted, encoding="utf-8")
    print(f"wrote {INDEX.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
