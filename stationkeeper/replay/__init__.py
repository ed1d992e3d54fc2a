"""A file through the very core that judges a live stream: no broker, one line a verdict."""
