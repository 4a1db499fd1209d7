"""Tasks that wait for devices: opened for a model, committed to, handed in for, summed and evaluated."""
