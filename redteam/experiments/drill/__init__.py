"""The canary drill: plant secrets, train, and see what comes out, over a grid."""
