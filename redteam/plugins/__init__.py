"""What plugs in: attacks, controls and defences, and the registry that finds them."""
