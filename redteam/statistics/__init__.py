"""Arrays in, intervals out: what membership scores prove, with every error probability accounted for."""
