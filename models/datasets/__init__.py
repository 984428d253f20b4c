"""Validation of uploaded files, and their reading in rows. The API and the trainer import it: no torch here."""
