"""redteam attacks and audits trained text classifiers for privacy leakage."""

__version__ = "0.1.0"
