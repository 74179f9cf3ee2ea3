"""Lecture 03. Stein's lemma."""
