"""Is a private trainer honest? `redteam verify` attacks it on data where nothing hides what it does."""
