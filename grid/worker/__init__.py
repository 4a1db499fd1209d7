"""Where plans run: a pre-loaded process forks a sandboxed seat, and a seat serves one job.

The daemon imports `engine` (and what that needs) only: no numpy, no torch. `zygote`, `seat`
and `jobs` run in processes of their own.
"""
