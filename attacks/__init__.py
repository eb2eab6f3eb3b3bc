"""Attacks, one module each; the module's docstring is its manual page.

A new attack is a new file in the folder of its kind with a class derived from `redteam.plugins.attack.Attack`: an id, a
name, the access it needs, the signals it returns, and `score`. It is found without being listed anywhere.
"""
