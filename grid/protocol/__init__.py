"""Rules without IO: what may happen, as tables and pure functions. No socket, no clock, no log."""
