"""Rounds in memory: the rules of `protocol`, driven by a clock moved by hand, to size policies before people wait."""
