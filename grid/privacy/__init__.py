"""Noise that hides what one has contributed, and what it costs."""
