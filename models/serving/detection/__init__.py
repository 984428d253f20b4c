"""The runner of models that find boxes: one pass of the base for all customers' pictures, then each one's detector."""
