"""Holds the data: catalogue, permissions, runs; as coordinator it drives rounds."""
