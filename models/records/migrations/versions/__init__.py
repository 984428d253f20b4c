"""Every revision, in order."""
