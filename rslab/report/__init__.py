"""What do we print? Tables of logs, ours and published."""
