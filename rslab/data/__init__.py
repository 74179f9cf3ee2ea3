"""On which images? Data sets as float32 images in [0, 1]."""
