"""The kinds of target that can be attacked, one module each; `redteam.targets.target.load_target` opens them."""
