"""Scenarios that break a model in front of the reader's eyes and watch the loop cure it."""
