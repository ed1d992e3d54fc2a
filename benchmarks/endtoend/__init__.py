"""From a real broker: exactly once with each client, beside what the client alone reads, and beside quixstreams."""
