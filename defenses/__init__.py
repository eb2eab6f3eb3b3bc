"""Trainers, one module or package each; the module's docstring is its manual page."""
