"""One point of the judge's cost, alone in its process; prints one JSON line."""

import json
import sys
from dataclasses import asdict

from benchmarks.footprint.judging import judged, segments_reference, wide
from benchmarks.measure.timing import one_core


def main(features: int, watches: int, panes: int) -> None:
    """Measure one point; 15 features are those of the benchmark's model."""
    one_core()
    known = segments_reference() if features == 15 else wide(features)
    print(json.dumps(asdict(judged(known, watches, panes))))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
