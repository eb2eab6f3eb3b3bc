"""Errors, exit codes, arrays, whole-file writes, interrupts, the JSON codec, workers; imports nothing of ours."""
