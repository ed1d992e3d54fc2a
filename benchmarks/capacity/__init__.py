"""What `stationkeeper plan` computes with: costs measured here, and its forecast held to runs of other sizes."""
