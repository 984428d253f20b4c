"""What `graft base-models add` does: find a model, look into it, try it, and enter it into the operator's file."""
