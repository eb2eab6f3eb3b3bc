"""What the command line's exit codes mean: the contract with every build that calls it."""

PASS = 0  # every limit judged, none proven exceeded
LEAK = 1  # a finding proven, not waived and not in the baseline
INCONCLUSIVE = 2  # anything else that is not a pass
INTERRUPTED = 130  # the same command goes on where it was
