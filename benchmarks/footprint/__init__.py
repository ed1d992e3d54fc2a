"""What the daemon costs at rest: memory, start, what it imports, and the judge's time for a pane."""
