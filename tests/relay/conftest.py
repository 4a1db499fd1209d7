"""A relay is seen at work at a gateway; a node's is the same, in front of the same database."""

from __future__ import annotations

from tests.gateway.conftest import calls_of, gateway, http

__all__ = ["calls_of", "gateway", "http"]
