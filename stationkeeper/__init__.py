"""The composition root: the command line, the configuration and the processes that make up the loop."""
