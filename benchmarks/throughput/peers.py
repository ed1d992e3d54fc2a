"""Runs the peers one at a time, each in an environment of its own, on a file of the benchmark's events."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.measure.environment import DECODER, NotInstalled, child_environment, python_of

SCRIPT = Path(__file__).with_name("peer.py")
TIMEOUT_S = 240

REQUIREMENTS = {
    "evidently": ("evidently==0.7.23", "numpy==2.4.6", "pandas==2.3.3", "scipy==1.17.1", DECODER),
    "whylogs": ("whylogs==1.6.4", "numpy==2.4.6", "pandas==2.3.3", DECODER),
    # nannyml imports statsmodels and leaves it to a dependency that no longer brings it.
    "nannyml": ("nannyml==0.13.1", "numpy==2.4.6", "pandas==3.1.1", "scipy==1.17.1", "statsmodels==0.15.0", DECODER),
    "alibi-detect": ("alibi-detect==0.13.0", "numpy==1.26.4", "scipy==1.17.1", DECODER),
    "river": ("river==0.26.1", "numpy==2.4.6", "scipy==1.17.1", DECODER),
    "frouros": ("frouros==0.9.0", "numpy==2.1.3", "scipy==1.14.1", DECODER),
}


@dataclass(frozen=True, slots=True)
class PeerRate:
    """One way to use a peer: events a second of one core, or why there is no figure."""

    peer: str
    way: str
    rate: float | None
    events: int = 0
    distance: bool = False
    features: int = 0
    rss_mib: float = 0.0
    failed: str = ""


class EventFiles:
    """The reference's rows and the events as two files of JSON lines, removed at the end."""

    def __init__(self, reference: list[bytes], events: list[bytes]) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="stationkeeper-bench-")
        self.reference = Path(self._home.name) / "reference.jsonl"
        self.events = Path(self._home.name) / "events.jsonl"
        self.reference.write_bytes(b"\n".join(reference) + b"\n")
        self.events.write_bytes(b"\n".join(events) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._home.cleanup()


def peer_rates(peer: str, files: EventFiles) -> Iterator[PeerRate]:
    """Run one peer and yield a rate for each way to use it; a peer that cannot run is named with the reason."""
    try:
        python = python_of(peer, REQUIREMENTS[peer])
        found = _run([str(python), str(SCRIPT), peer, str(files.reference), str(files.events)])
    except (NotInstalled, subprocess.SubprocessError, ValueError) as error:
        yield PeerRate(f"{peer}", "-", None, failed=str(error)[-300:])
        return
    for way in found["ways"]:
        yield PeerRate(
            f"{peer} {REQUIREMENTS[peer][0].partition('==')[2]}",
            way["way"],
            way["events"] / way["seconds"],
            way["events"],
            way["distance"],
            way["features"],
            found["rss_mib"],
        )


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, env=child_environment(), check=False
    )
    if done.returncode:
        raise ValueError(" ".join(done.stderr.split()[-40:]))
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found
