"""Fleets: devices that report when they can train, and projects whose rounds are tasks for them."""
