"""Programs that measure, each printing its figures and the command that made them."""
