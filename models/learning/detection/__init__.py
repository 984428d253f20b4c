"""The learner of boxes: a pyramid and a head without anchors on the frozen base's maps first, then the base too."""
