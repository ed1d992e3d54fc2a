"""What crosses a topic: messages, identities, topic names and closed lists, shared by every room."""
