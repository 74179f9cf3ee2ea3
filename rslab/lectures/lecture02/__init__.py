"""Lecture 02. Randomized smoothing: PREDICT and CERTIFY."""
