"""Figures of the course: `style` is shared, each lecture has a module of its own."""
