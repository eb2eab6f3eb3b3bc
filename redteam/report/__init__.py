"""What an audit found, as values: written, read back, checked for consistency, and put into words."""
