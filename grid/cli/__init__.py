"""Reads configuration, builds objects, starts loops."""
