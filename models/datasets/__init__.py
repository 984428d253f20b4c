"""Uploaded files → validated rows. Known to the API (validation) and to the trainer (reading); no torch here."""
