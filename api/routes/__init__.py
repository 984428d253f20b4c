"""One module per resource. A route parses, makes one service call and returns."""
