"""Theory against practice: what training claims, what it earns, and what attacks get out of the model."""
