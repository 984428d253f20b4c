"""The runner of encoders: requests, batches, passes and what they cost."""
