"""What stays on disk? Run folders, logs, checkpoints."""
