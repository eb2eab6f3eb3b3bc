"""What clients' updates leak: read them, attack them, and hold what is recovered against the texts they come from."""
