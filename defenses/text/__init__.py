"""Privatisers of text: each word is exchanged at random for one that is close to it, before anything is trained."""
