"""Membership inference: was this example trained on?"""
