"""Turns a retrain request into a gated, registered candidate model with its lineage."""
