"""Extraction: what was the secret in this sentence?

Modules with a leading underscore hold what the attacks share and need torch; an attack imports them when it runs.
"""
