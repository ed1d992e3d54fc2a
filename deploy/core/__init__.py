"""The rollout state machine and the canary analysis, pure: records and counts in, decisions out."""
