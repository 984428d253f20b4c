"""A run's best version beside the version that is live, on the same held-out rows."""
