"""Lecture 06. SmoothAdv."""
