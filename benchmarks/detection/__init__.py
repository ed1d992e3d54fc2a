"""Detection delay at a matched false-alarm rate: this engine and its peers, and whether the guarantees hold."""
