"""Attacks on what clients of a federation send (RT3xx); what they share is beside them."""
