"""Lecture 05. Training smoothed classifiers."""
