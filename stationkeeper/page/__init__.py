"""The status page: fleet, model, incident; words first, plots beside them, all drawn on the server."""
