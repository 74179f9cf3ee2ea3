"""Checks of the exercises: `answers` is shared, each lecture has a module of its own."""
