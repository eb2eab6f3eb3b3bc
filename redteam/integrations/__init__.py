"""The audit inside other people's tools: transformers' Trainer, scikit-learn, pytest, experiment trackers.

Each module imports the library it is named after when it is imported itself, and nothing of ours imports any of them
before somebody asks for one.
"""
