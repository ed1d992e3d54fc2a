"""The serving systems whose traffic a rollout can move."""
