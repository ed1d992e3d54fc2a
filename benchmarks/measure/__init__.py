"""What the speed benchmarks share: timing side by side, peers' environments, a broker, results and plots."""
