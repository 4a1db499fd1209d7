"""What a role lets its accounts do: ten rights, each asked for by the endpoints that name it."""

from __future__ import annotations

from enum import StrEnum


class Right(StrEnum):
    """One flag of a role. Permissions on data are another matter: see `protocol.permission`."""

    MAKE_REQUESTS = "make-requests"
    """Ask for access to data."""
    TRIAGE_REQUESTS = "triage-requests"
    """See all requests with their evidence, and decide on them."""
    MANAGE_BUDGETS = "manage-budgets"
    """Set privacy budgets."""
    CREATE_USERS = "create-users"
    """Make, change and remove accounts, and end their sessions."""
    CREATE_GROUPS = "create-groups"
    """Make, change and remove groups, and say who is in them."""
    EDIT_ROLES = "edit-roles"
    """Make, change and remove roles."""
    EDIT_SETTINGS = "edit-settings"
    """Change the daemon's settings: whom it trusts, with whom it is associated."""
    MANAGE_INFRASTRUCTURE = "manage-infrastructure"
    """Add and remove workers."""
    UPLOAD_DATA = "upload-data"
    """Add, change and remove datasets and models, and say who may have them."""
    MANAGE_NODES = "manage-nodes"
    """Remove nodes from a network."""
