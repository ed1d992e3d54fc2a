"""Moves traffic to a candidate step by step, compares it with the champion, promotes it or rolls it back."""
