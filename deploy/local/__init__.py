"""The embedded deployment: everything on one machine, from Python packages only."""
