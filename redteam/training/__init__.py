"""From a data file to model.pt and its ledger."""
