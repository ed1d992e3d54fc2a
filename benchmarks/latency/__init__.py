"""From an event to the verdict on its minute, split into waiting for the minute to close and work."""
