"""What this room refuses. Rooms above translate these into problems that a caller sees."""

from __future__ import annotations


class CryptoError(Exception):
    """The root of everything that `grid.crypto` refuses."""


class Malformed(CryptoError):
    """These bytes are not what they claim to be."""


class BadSignature(CryptoError):
    """The signature or MAC does not belong to this key and message."""


class Replayed(CryptoError):
    """Seen before, or outside the time in which it may be used."""


class NoncesFull(CryptoError):
    """Too many nonces to remember at once. Refused, not forgotten: forgetting would admit replays."""


class KeyFileUnsafe(CryptoError):
    """A private key's file is open to others, or is not a plain file of ours."""


class EnvelopeRefused(CryptoError):
    """An envelope does not open. `reason` is a stable word for programs, the message is for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class PrekeyUnknown(EnvelopeRefused):
    """The envelope is sealed to a prekey that is not, or no longer, held here."""

    def __init__(self, prekey_id: bytes) -> None:
        super().__init__("prekey-unknown", f"prekey {prekey_id.hex()} is not, or no longer, held here")
        self.prekey_id = prekey_id
