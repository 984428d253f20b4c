"""Pictures and sounds: told apart by content, judged from their headers, decoded under limits."""
