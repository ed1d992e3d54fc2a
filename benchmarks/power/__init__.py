"""The power card against simulation."""
