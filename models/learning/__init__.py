"""Examples → features → head or adapter → evaluation → artifact. Torch, but no database and no network."""
