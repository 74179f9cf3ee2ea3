"""How is it taught? A folder a lecture: figures, explorers, checks."""
