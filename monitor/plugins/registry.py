"""Find a plug-in by name: the fixed rules, river's detectors, then third parties' entry points."""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any

from stationkeeper.monitor.plugins.port import ENTRY_POINTS, Detector, Watched
from stationkeeper.monitor.plugins.river_detectors import NAMES, RiverDetector
from stationkeeper.monitor.plugins.rules import RULES, FixedRule


def names() -> list[str]:
    """Every plug-in that can be configured here."""
    others = [point.name for point in entry_points(group=ENTRY_POINTS)]
    return sorted([*RULES, *(f"river.{name}" for name in NAMES), *others])


def load(name: str, subject: Watched, options: Mapping[str, Any] | None = None) -> Detector:
    """Build the plug-in of this name for a subject.

    Raises ValueError that names the nearest plug-ins for an unknown name, or the option that is wrong.
    """
    chosen = dict(options or {})
    if name in RULES:
        return FixedRule(name, subject, chosen)
    library, _, detector = name.partition(".")
    if library == "river" and detector in NAMES:
        return RiverDetector(detector, subject, chosen)
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            built: Detector = point.load()(subject, chosen)
            return built
    known = names()
    near = get_close_matches(name, known, n=3, cutoff=0.4) or known
    raise ValueError(f"no detector plug-in {name!r}; did you mean {', '.join(near)}?")
