"""What a trained version is on disk: one manifest, one writer, one reader with typed parts."""
