"""Every speed benchmark in one run, and the page that is written from it."""
