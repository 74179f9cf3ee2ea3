"""Explorers of the course: `explorer` is shared, each lecture has a module of its own."""
