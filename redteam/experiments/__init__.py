"""Grids of trainings and attacks, done cell by cell in worker processes: the gap table and the canary drill."""
