"""The learner of models that write: examples in the prompt first, then training, judged on the same held-out rows."""
