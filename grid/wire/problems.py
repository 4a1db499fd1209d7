"""Every refusal of the grid, declared once: status, slug and title (RFC 9457).

The server answers with it, the client raises the same class again, and
`docs/problems/` has a page for each slug. A test holds the three together.
"""

from __future__ import annotations

from typing import Any, ClassVar


class GridError(Exception):
    """Something the grid refuses. `detail` says why, in words for a person.

    `status` is the HTTP status, `slug` the stable name of the problem, `title` its meaning.
    `retry_after` (seconds) is given where trying again later may succeed.
    """

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong on this side"

    def __init__(self, detail: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after = retry_after

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.slug in PROBLEMS:
            raise TypeError(f"two problems share the slug {cls.slug!r}")
        PROBLEMS[cls.slug] = cls


PROBLEMS: dict[str, type[GridError]] = {GridError.slug: GridError}


def to_problem(error: GridError) -> dict[str, object]:
    """The RFC 9457 document of an error."""
    document: dict[str, object] = {
        "type": f"urn:grid:problem:{error.slug}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
    }
    if error.retry_after is not None:
        document["retry-after"] = error.retry_after
    return document


def from_problem(document: dict[str, object], status: int) -> GridError:
    """The error that a problem document speaks of; an unknown slug becomes a `GridError`."""
    slug = str(document.get("type", "")).rpartition(":")[2]
    detail = str(document.get("detail") or document.get("title") or f"HTTP status {status}")
    retry = document.get("retry-after")
    return PROBLEMS.get(slug, GridError)(detail, retry_after=float(retry) if isinstance(retry, (int, float)) else None)


# --- what arrives: requests and bodies -------------------------------------------------------


class BadRequest(GridError):
    status, slug, title = 400, "bad-request", "The request is not what this endpoint takes"


class NotFound(GridError):
    status, slug, title = 404, "not-found", "There is nothing here"


class MethodNotAllowed(GridError):
    status, slug, title = 405, "method-not-allowed", "This path does not take that method"


class TooLarge(GridError):
    status, slug, title = 413, "too-large", "The body is larger than this endpoint takes"


class TooSlow(GridError):
    status, slug, title = 408, "too-slow", "The body did not arrive in time"


class UnsupportedEncoding(GridError):
    status, slug, title = 415, "unsupported-encoding", "Compressed bodies are not taken"


class UnsupportedMediaType(GridError):
    status, slug, title = 415, "unsupported-media-type", "This media type is not taken here"


class PartMismatch(GridError):
    status, slug, title = 409, "part-mismatch", "The upload goes on at another place"


class RangeUnsatisfiable(GridError):
    status, slug, title = 416, "range-unsatisfiable", "There is nothing in that range"


class TooManyRequests(GridError):
    status, slug, title = 429, "too-many-requests", "Slow down"


class Draining(GridError):
    status, slug, title = 503, "draining", "This daemon is shutting down"


class Unreachable(GridError):
    status, slug, title = 502, "unreachable", "The other side could not be reached"

    connected = True
    """False where it is certain that not one byte of the call was sent: nobody could be connected to."""


# --- who asks --------------------------------------------------------------------------------


class NotAuthenticated(GridError):
    status, slug, title = 401, "not-authenticated", "This call needs a signature, a session or a token"


class BadSignature(GridError):
    status, slug, title = 401, "bad-signature", "The signature does not fit what it signs"


class Replayed(GridError):
    status, slug, title = 401, "replayed", "This signed message was already used, or is too old"


class SessionUnknown(GridError):
    status, slug, title = 401, "session-unknown", "The session has ended; sign in again"


class NotAllowed(GridError):
    status, slug, title = 403, "not-allowed", "This caller may not do that"


# --- directory -------------------------------------------------------------------------------


class NodeIdTaken(GridError):
    status, slug, title = 409, "node-id-taken", "Another key already holds this node id"


class KeyChanged(GridError):
    status, slug, title = 409, "key-changed", "This name is known by another key"


class KeyRevoked(GridError):
    status, slug, title = 403, "key-revoked", "This key was revoked"


class KeyForeign(GridError):
    status, slug, title = 409, "key-foreign", "The directory lists this name under a key that is not its own"


class LogForked(GridError):
    status, slug, title = 409, "log-forked", "The gateway's log does not go on where it was"


class StaleRecord(GridError):
    status, slug, title = 409, "stale-record", "A newer record of this node is already known"


class UnsignedJoinRefused(GridError):
    status, slug, title = 403, "unsigned-join-refused", "This gateway takes signed joins only"


class AddressRefused(GridError):
    status, slug, title = 422, "address-refused", "This address may not be called"


class NotAMember(GridError):
    status, slug, title = 404, "not-a-member", "No such member; join again"


class Full(GridError):
    status, slug, title = 507, "full", "There is no room for more here"


class SchemaUnknown(GridError):
    status, slug, title = 500, "schema-unknown", "This database belongs to another version or kind of daemon"


# --- datasets --------------------------------------------------------------------------------


class DatasetRefused(GridError):
    status, slug, title = 422, "dataset-refused", "This file cannot become a dataset"


class DatasetExists(GridError):
    status, slug, title = 409, "dataset-exists", "A dataset of this name is already here"


class DatasetNotFound(GridError):
    status, slug, title = 404, "dataset-not-found", "No such dataset"


# --- plans, tensors and workers --------------------------------------------------------------


class PlanRefused(GridError):
    status, slug, title = 422, "plan-refused", "This plan breaks a rule of the plan format"


class QuestionRefused(GridError):
    status, slug, title = 422, "question-refused", "This question cannot be asked, or not of this data"


class NotEstimable(GridError):
    status, slug, title = 422, "not-estimable", "The data do not determine the answer"


class BudgetSpent(GridError):
    status, slug, title = 403, "budget-spent", "The privacy budget does not allow it"


class CaptureFailed(GridError):
    status, slug, title = 422, "capture-failed", "This module cannot become a plan"


class TensorsRefused(GridError):
    status, slug, title = 422, "tensors-refused", "These tensors are not what was declared"


class WorkerFailed(GridError):
    status, slug, title = 500, "worker-failed", "The job ended without a result"


class WorkerLost(WorkerFailed):
    status, slug, title = 500, "worker-lost", "The process of the job ended before the job did"


class WorkerBusy(GridError):
    status, slug, title = 503, "worker-busy", "All workers are taken"


class GpuMissing(GridError):
    status, slug, title = 503, "gpu-missing", "This node computes on GPUs only, and there is none"


class GpuFailed(WorkerFailed):
    status, slug, title = 500, "gpu-failed", "The job could not be done on the GPU"


class SandboxMissing(GridError):
    status, slug, title = 503, "sandbox-missing", "This machine cannot isolate a job as policy asks"


# --- sealed payloads -------------------------------------------------------------------------


class EnvelopeRefused(GridError):
    status, slug, title = 422, "envelope-refused", "This sealed envelope cannot be opened here"


class PrekeyUnknown(GridError):
    status, slug, title = 409, "prekey-unknown", "Sealed to a prekey that is no longer held; fetch the new one"


# --- runs, rounds, assignments ---------------------------------------------------------------


class RunNotFound(GridError):
    status, slug, title = 404, "run-not-found", "No such run, or not yours"


class RunRefused(GridError):
    status, slug, title = 422, "run-refused", "This run cannot start as asked"


class NoParticipants(GridError):
    status, slug, title = 409, "no-participants", "Too few nodes take part"


class NotInvited(GridError):
    status, slug, title = 403, "not-invited", "This node was not invited to that round"


class RoundClosed(GridError):
    status, slug, title = 409, "round-closed", "The round no longer takes updates"


class SumRefused(GridError):
    status, slug, title = 409, "sum-refused", "A node does not take part in this secure sum"


class TaskClosed(GridError):
    status, slug, title = 409, "task-closed", "The task takes no commits"


class TaskNotFound(GridError):
    status, slug, title = 404, "task-not-found", "There is no such task, or no such job, for this caller"


class TaskExists(GridError):
    status, slug, title = 409, "task-exists", "A task of this name is already here"


class TicketRefused(GridError):
    status, slug, title = 403, "ticket-refused", "This address takes nothing from this caller"


class UpdateRepeated(GridError):
    status, slug, title = 409, "update-repeated", "This node's update for the round was already accepted"


class UpdateRefused(GridError):
    status, slug, title = 422, "update-refused", "This update cannot be counted"


class StrategyRefused(GridError):
    status, slug, title = 422, "strategy-refused", "This strategy cannot be carried out"


class OutOfTurn(GridError):
    status, slug, title = 409, "out-of-turn", "That cannot happen in the present state"


class InviteRefused(GridError):
    status, slug, title = 403, "invite-refused", "This node does not take that invitation"


# --- accounts of a gateway ----------------------------------------------------------------------


class AccountRefused(GridError):
    status, slug, title = 422, "account-refused", "There cannot be such an account"


# --- models -------------------------------------------------------------------------------------


class ModelNotFound(GridError):
    status, slug, title = 404, "model-not-found", "There is no such model, variant or checkpoint for this caller"


class ModelExists(GridError):
    status, slug, title = 409, "model-exists", "A model, variant or checkpoint of this name is already here"


class ModelRefused(GridError):
    status, slug, title = 422, "model-refused", "This cannot be a model, a variant or a checkpoint"


class CommitsSpent(GridError):
    status, slug, title = 403, "commits-spent", "This caller has committed to the task as often as it may"


# --- requests for access ------------------------------------------------------------------------


class RequestRefused(GridError):
    status, slug, title = 422, "request-refused", "This cannot be asked for"


class NotAdmitted(GridError):
    status, slug, title = 403, "not-admitted", "An officer has to admit this run first"


class NotReleased(GridError):
    status, slug, title = 403, "not-released", "What this run learned was not released yet"


# --- associations ---------------------------------------------------------------------------------


class AssociationRefused(GridError):
    status, slug, title = 403, "association-refused", "There can be no such association"


# --- projects -----------------------------------------------------------------------------------


class ProjectNotFound(GridError):
    status, slug, title = 404, "project-not-found", "There is no such project for this caller"


class ProjectRefused(GridError):
    status, slug, title = 422, "project-refused", "This project cannot be as asked"


# --- fleets of devices --------------------------------------------------------------------------


class DeviceNotFound(GridError):
    status, slug, title = 404, "device-not-found", "This account is no device, or there is nothing for it"


class RoundNotFound(GridError):
    status, slug, title = 404, "round-not-found", "The project has no such round"


# --- the relay ----------------------------------------------------------------------------------


class MailboxUnknown(GridError):
    status, slug, title = 404, "mailbox-unknown", "Nobody reads a mailbox of this name here"


class MailboxFull(GridError):
    status, slug, title = 507, "mailbox-full", "This mailbox holds as much as it may"


class QuotaSpent(GridError):
    status, slug, title = 429, "quota-spent", "This sender has as much under way as it may"


class LetterRepeated(GridError):
    status, slug, title = 409, "letter-repeated", "This very letter was posted before"
