"""What is proved? Bounds from votes to radii, and the classifier that is certified."""
