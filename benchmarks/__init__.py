"""What the grid promises of speed and size, measured: `./dev bench`, or `python -m benchmarks [NAME...]`."""
