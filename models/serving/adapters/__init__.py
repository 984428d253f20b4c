"""One customer's weights: in memory, on disk, assembled from the artifact's parts."""
