"""Validation of uploads in processes of their own: without secrets, bounded in time and memory, shared out fairly."""
