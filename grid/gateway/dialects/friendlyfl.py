"""FriendlyFL's routing server over this gateway's record: a translation, which owns no rule and no table."""

from __future__ import annotations

from grid.gateway.dialects.friendlyfl_files import file_routes
from grid.gateway.dialects.friendlyfl_projects import ParticipantRoutes, ProjectRoutes
from grid.gateway.dialects.friendlyfl_runs import RunRoutes
from grid.gateway.dialects.friendlyfl_sites import GroupRoutes, SiteRoutes, UserRoutes
from grid.gateway.record import Record
from grid.transport.app import Routes


def friendlyfl_routes(record: Record) -> Routes:
    """Every route of `/friendlyfl/api/v1/` with its handler."""
    return {
        **UserRoutes(record).routes(),
        **GroupRoutes(record).routes(),
        **SiteRoutes(record).routes(),
        **ProjectRoutes(record).routes(),
        **ParticipantRoutes(record).routes(),
        **RunRoutes(record).routes(),
        **file_routes(record),
    }
