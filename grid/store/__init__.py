"""Rows and files: the one room with SQL, and what is on disk when a call returns."""
