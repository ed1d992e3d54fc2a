"""The planning and gating of a retraining, pure: evidence in, decisions with reasons out."""
