"""Lecture 08. Beyond: sequential certification, soundness, the grid."""
