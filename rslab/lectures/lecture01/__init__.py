"""Lecture 01. Adversarial examples."""
