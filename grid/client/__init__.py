"""Talking to daemons: a pure core under two thin shells, async and plain."""
