"""Find a plug-in by name: the fixed rules, river's detectors, then what other distributions offer."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from stationkeeper.contracts.plugins import IMPORT_PATH, PluginGroup, load_plugin, plugin_names
from stationkeeper.monitor.plugins.port import Detector, Watched
from stationkeeper.monitor.plugins.river_detectors import NAMES, RiverDetector
from stationkeeper.monitor.plugins.rules import RULES, FixedRule


def names() -> list[str]:
    """Return every plug-in that can be configured here by name; others have an import path ``package.module:Name``."""
    return sorted({*RULES, *(f"river.{name}" for name in NAMES), *plugin_names(PluginGroup.DETECTORS)})


def is_known(name: str) -> bool:
    """Return whether a name is that of a plug-in, or may be one by its import path."""
    return name in names() or IMPORT_PATH.fullmatch(name) is not None


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
    if not is_known(name):
        # Looser than difflib's .6: the library's prefix alone is a third of a short name. Three are read at a glance.
        near = get_close_matches(name, names(), n=3, cutoff=0.4) or names()
        raise ValueError(f"no detector plug-in {name!r}; did you mean {', '.join(near)}?")
    built: Detector = load_plugin(PluginGroup.DETECTORS, name)(subject, chosen)
    return built
