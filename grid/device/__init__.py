"""A device that takes part in rounds, by Python's own library and numpy: to read, to copy, and to put into an app."""

from grid.device.device import Assignment, Device, Later, Refused
from grid.device.over_http import over_http

__all__ = ["Assignment", "Device", "Later", "Refused", "over_http"]
