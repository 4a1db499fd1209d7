"""A table of jobs that takes for ever to load."""

from __future__ import annotations

import signal

signal.pause()
