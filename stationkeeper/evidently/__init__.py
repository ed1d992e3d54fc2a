"""Interchange with Evidently: its column mappings are read, and its report is written from our reference and rows."""
