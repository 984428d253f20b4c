"""Keys and aliases as the hot path sees them. No torch."""
