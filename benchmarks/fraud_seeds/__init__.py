"""Many fraud stories with drawn shifts, and as many without, each through the whole loop."""
