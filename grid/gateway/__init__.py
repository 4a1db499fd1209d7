"""Lists members and forwards questions; it can neither compute nor read."""
