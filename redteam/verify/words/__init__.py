"""Is a privatiser of text as private as it says? Certain failures first, then its channel, then draws from it."""
