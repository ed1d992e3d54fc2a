"""The statistics and decisions of the monitor, pure: arrays and values in, values out."""
