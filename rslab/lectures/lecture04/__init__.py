"""Lecture 04. The proof of the radius."""
