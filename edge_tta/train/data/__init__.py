"""Training data: catalogs of clips, captions, and windows cut and assembled from clips. Numpy only."""
