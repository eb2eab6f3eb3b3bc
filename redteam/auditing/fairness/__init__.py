"""How answers depend on the groups that texts name: swap lists, counterfactual pairs, templates, and what is judged."""
