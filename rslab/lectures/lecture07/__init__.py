"""Lecture 07. The CIFAR-10 table."""
