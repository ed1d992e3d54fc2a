"""More positives of the same kind, and moved inputs: what is named, after how many hours; and quiet months."""
