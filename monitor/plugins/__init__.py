"""Detectors that are not ours, beside our own: other tools' fixed thresholds, river's detectors, third parties' own.

In come a subject with its reference counts, then the counts of each closed pane. Out come alarms, which warn and spend
no false-page budget. State: whatever a detector's `state()` gives, as JSON values, kept with the watch it belongs to.
Invariant: the same panes give the same alarms, also after a restart; `check_detector` tests that for any detector.
Read `port` (the protocol), `registry` (how one is found: by name, entry point or import path), `rules` with
`statistics`, `river_detectors`, `conformance`.
"""

from stationkeeper.monitor.plugins.port import Alarm, Detector, Factory, Watched

__all__ = ["Alarm", "Detector", "Factory", "Watched"]
