"""Lecture 00. Why a course: σ on a digit, and the set-up check."""
