"""One point of the judge's cost, alone in its process; prints one JSON line."""

import json
import sys
from dataclasses import asdict

from benchmarks.footprint.judging import judged, plain, segments_reference, wide
from benchmarks.measure.timing import one_core

REFERENCES = {"wide": lambda: wide(300), "plain": lambda: plain(300), "pairs": segments_reference}


def main(shape: str, watches: int, panes: int) -> None:
    """Measure one point."""
    one_core()
    print(json.dumps(asdict(judged(REFERENCES[shape](), watches, panes))))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
