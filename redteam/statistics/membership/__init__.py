"""Membership scores from arrays: what a row's neighbours share, and what reference models say of it.

A score is a number per row, higher meaning "was trained on". Log-odds are log p - log(1 - p) of a row's own label: of
the target, shape [n], and of k reference models, shape [k, n], with `included`, shape [k, n], where a reference was
trained on the row. No function sees which rows the target was trained on.
"""
