"""People at a node or a gateway: signing in, accounts and their keys, roles, groups, sessions."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from grid.wire.directory import Done
from grid.wire.documents import Signed
from grid.wire.endpoint import Endpoint
from grid.wire.message import Document, Message
from grid.wire.names import Count, PublicKey, Seconds
from grid.wire.problems import (
    AccountRefused,
    BadSignature,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Replayed,
    TooManyRequests,
)
from grid.wire.rights import Right

AccountName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=150,
        pattern=r"^[A-Za-z0-9@.+_-]+\Z",
        description="By what an account or a group is known; no two of either have the same",
    ),
]
RoleName = Annotated[
    str, Meta(min_length=1, max_length=150, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]*\Z", description="A role's name")
]
Email = Annotated[str, Meta(max_length=254, description="Where its holder is reached; may be empty")]
Password = Annotated[str, Meta(max_length=1024, description="Kept as Argon2id (RFC 9106) alone")]
Opaque = Annotated[str, Meta(max_length=512, description="Good for as long as its session, or until it is used")]

ACCOUNT_KEY = "account-key"
"""The signing domain of `KeyOf`."""


class KeyOf(Document, frozen=True):
    """A key says that it belongs to an account of a daemon, which is named by its own key."""

    account: AccountName
    daemon: PublicKey
    expires: Seconds


class Login(Message, frozen=True):
    """A name and its password. `key`: a `KeyOf`, whose signer stands for the account from then on."""

    name: Annotated[str, Meta(max_length=254)]
    password: Password
    key: Signed | None = None


class Refresh(Message, frozen=True):
    """The newest word that a session was given to go on with."""

    refresh: Opaque


class Tokens(Message, frozen=True):
    """`token` is a bearer's, until `expires` (UTC seconds); `refresh` gets the next one, once."""

    account: AccountName
    token: Opaque
    expires: Seconds
    refresh: Opaque


class AccountInfo(Message, frozen=True):
    """An account as those see it who may. `password`: whether it has one."""

    id: int
    name: AccountName
    email: Email
    role: RoleName
    groups: tuple[AccountName, ...]
    keys: tuple[PublicKey, ...]
    password: bool
    created: Seconds


class Accounts(Message, frozen=True):
    """All accounts that the caller may see, oldest first."""

    accounts: tuple[AccountInfo, ...]


class NewAccount(Message, frozen=True):
    """An account to be. Without a `role` it gets the least one; the first account of a daemon owns it.

    Without a `password` its keys alone sign it in.
    """

    name: AccountName
    email: Email = ""
    password: Password = ""
    role: RoleName = ""
    groups: Annotated[tuple[AccountName, ...], Meta(max_length=256)] = ()
    keys: Annotated[tuple[PublicKey, ...], Meta(max_length=64)] = ()


class AccountChange(Message, frozen=True):
    """What is to be another. Whoever changes a password of their own says the present one, too."""

    email: Email | UnsetType = UNSET
    password: Password | UnsetType = UNSET
    present: Password | UnsetType = UNSET
    role: RoleName | UnsetType = UNSET
    groups: Annotated[tuple[AccountName, ...], Meta(max_length=256)] | UnsetType = UNSET


class NewKey(Message, frozen=True):
    """A key that is to stand for an account: by its own word (a `KeyOf`), or by that of who makes accounts."""

    public_key: PublicKey
    proof: Signed | None = None


class RoleInfo(Message, frozen=True):
    """A role, and how many accounts have it."""

    id: int
    name: RoleName
    rights: tuple[Right, ...]
    preset: bool
    accounts: Count


class Roles(Message, frozen=True):
    """All roles, preset ones first."""

    roles: tuple[RoleInfo, ...]


class NewRole(Message, frozen=True):
    """A role to be, or what one is to be from now on."""

    name: RoleName
    rights: Annotated[tuple[Right, ...], Meta(max_length=16)] = ()


class GroupInfo(Message, frozen=True):
    """A group, and who is in it."""

    id: int
    name: AccountName
    accounts: tuple[AccountName, ...] = ()


class Groups(Message, frozen=True):
    """All groups that the caller may see, oldest first."""

    groups: tuple[GroupInfo, ...]


class NewGroup(Message, frozen=True):
    """A group to be, or another name for one."""

    name: AccountName


class SessionInfo(Message, frozen=True):
    """Somebody signed in with a password: since when, last when, until when, from where."""

    id: str
    account: AccountName
    created: Seconds
    used: Seconds
    expires: Seconds
    place: str


class Sessions(Message, frozen=True):
    """The sessions that the caller may see, newest first."""

    sessions: tuple[SessionInfo, ...]


# --- signing in -----------------------------------------------------------------------------------

LOGIN = Endpoint(
    "POST",
    "/v1/login",
    Login,
    Tokens,
    about="Sign in with a name and a password",
    problems=(NotAuthenticated, TooManyRequests, BadSignature, Replayed, AccountRefused),
)
REFRESH = Endpoint(
    "POST", "/v1/login/refresh", Refresh, Tokens, about="Go on with a session", problems=(NotAuthenticated,)
)
LOGOUT: Endpoint[None, Done] = Endpoint("DELETE", "/v1/login", gives=Done, who="signed", about="End this session")
ME: Endpoint[None, AccountInfo] = Endpoint(
    "GET", "/v1/me", gives=AccountInfo, who="signed", about="The account that calls", problems=(NotFound,)
)
SESSIONS: Endpoint[None, Sessions] = Endpoint(
    "GET", "/v1/sessions", gives=Sessions, who="signed", about="Who is signed in: oneself, and all for who makes users"
)
END_SESSION: Endpoint[None, Done] = Endpoint(
    "DELETE", "/v1/sessions/{id}", gives=Done, who="signed", about="End a session", problems=(NotFound,)
)

# --- accounts -------------------------------------------------------------------------------------

ACCOUNTS: Endpoint[None, Accounts] = Endpoint(
    "GET",
    "/v1/accounts",
    gives=Accounts,
    who="signed",
    about="The accounts: one's own, and all for who works with them",
)
ACCOUNT: Endpoint[None, AccountInfo] = Endpoint(
    "GET", "/v1/accounts/{name}", gives=AccountInfo, who="signed", about="One account", problems=(NotFound,)
)
ADD_ACCOUNT = Endpoint(
    "POST",
    "/v1/accounts",
    NewAccount,
    AccountInfo,
    who="signed",
    right=Right.CREATE_USERS,
    about="Make an account",
    problems=(AccountRefused, NotAllowed, NotFound),
)
CHANGE_ACCOUNT = Endpoint(
    "PATCH",
    "/v1/accounts/{name}",
    AccountChange,
    AccountInfo,
    who="signed",
    about="Change an account: one's own address and password, or another's",
    problems=(AccountRefused, NotAllowed, NotFound),
)
REMOVE_ACCOUNT: Endpoint[None, Done] = Endpoint(
    "DELETE",
    "/v1/accounts/{name}",
    gives=Done,
    who="signed",
    right=Right.CREATE_USERS,
    about="Remove an account",
    problems=(NotAllowed, NotFound),
)
ADD_KEY = Endpoint(
    "POST",
    "/v1/accounts/{name}/keys",
    NewKey,
    AccountInfo,
    who="signed",
    about="Let a key stand for an account",
    problems=(AccountRefused, BadSignature, NotAllowed, NotFound, Replayed),
)
REMOVE_KEY: Endpoint[None, Done] = Endpoint(
    "DELETE",
    "/v1/accounts/{name}/keys/{public_key}",
    gives=Done,
    who="signed",
    about="Let it no longer",
    problems=(NotAllowed, NotFound),
)

# --- roles and groups -----------------------------------------------------------------------------

ROLES: Endpoint[None, Roles] = Endpoint("GET", "/v1/roles", gives=Roles, who="signed", about="The roles")
ADD_ROLE = Endpoint(
    "POST",
    "/v1/roles",
    NewRole,
    RoleInfo,
    who="signed",
    right=Right.EDIT_ROLES,
    about="Make a role",
    problems=(AccountRefused, NotAllowed),
)
CHANGE_ROLE = Endpoint(
    "PUT",
    "/v1/roles/{name}",
    NewRole,
    RoleInfo,
    who="signed",
    right=Right.EDIT_ROLES,
    about="Change a role that somebody made",
    problems=(AccountRefused, NotAllowed, NotFound),
)
REMOVE_ROLE: Endpoint[None, Done] = Endpoint(
    "DELETE",
    "/v1/roles/{name}",
    gives=Done,
    who="signed",
    right=Right.EDIT_ROLES,
    about="Remove a role that no account has",
    problems=(AccountRefused, NotAllowed, NotFound),
)
GROUPS: Endpoint[None, Groups] = Endpoint(
    "GET", "/v1/groups", gives=Groups, who="signed", about="The groups: one's own, and all for who works with them"
)
ADD_GROUP = Endpoint(
    "POST",
    "/v1/groups",
    NewGroup,
    GroupInfo,
    who="signed",
    right=Right.CREATE_GROUPS,
    about="Make a group",
    problems=(AccountRefused,),
)
CHANGE_GROUP = Endpoint(
    "PUT",
    "/v1/groups/{name}",
    NewGroup,
    GroupInfo,
    who="signed",
    right=Right.CREATE_GROUPS,
    about="Give a group another name",
    problems=(AccountRefused, NotFound),
)
REMOVE_GROUP: Endpoint[None, Done] = Endpoint(
    "DELETE",
    "/v1/groups/{name}",
    gives=Done,
    who="signed",
    right=Right.CREATE_GROUPS,
    about="Remove a group; the accounts in it stay",
    problems=(NotFound,),
)
JOIN_GROUP: Endpoint[None, GroupInfo] = Endpoint(
    "PUT",
    "/v1/groups/{name}/accounts/{account}",
    gives=GroupInfo,
    who="signed",
    right=Right.CREATE_GROUPS,
    about="Put an account into a group",
    problems=(NotFound,),
)
LEAVE_GROUP: Endpoint[None, GroupInfo] = Endpoint(
    "DELETE",
    "/v1/groups/{name}/accounts/{account}",
    gives=GroupInfo,
    who="signed",
    right=Right.CREATE_GROUPS,
    about="Take an account out of a group",
    problems=(NotFound,),
)
