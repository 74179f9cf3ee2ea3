"""On what? Devices, processes and random numbers."""
