"""Detectors that are not ours: fixed thresholds in other tools' words, river's detectors, and third parties' own."""
