"""The canary drill: plant secrets, train, and extract what was learned, over a grid."""
