"""How Graft runs: the command line, the embedded deployment, containers."""
