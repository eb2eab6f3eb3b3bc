"""The kinds of target that can be attacked, one module each; `redteam.target.load_target` opens them."""
