"""How good is it? Certify or attack a data set, a log row an image."""
