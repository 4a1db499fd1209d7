"""Who a node or a person is: an Ed25519 key, kept in one file that nobody else can read.

The public key is the identity; `Identity.id` is how messages write it. An identity signs, it never
decrypts: payloads are sealed to prekeys (see `prekeys`), which come and go.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from grid.crypto.encoding import b64, unb64
from grid.crypto.errors import KeyFileUnsafe
from grid.crypto.signing import framed

_MAX_KEY_FILE = 4096


class Identity:
    """An Ed25519 private key. `public` is its 32 public bytes, `id` their base64url, 43 characters."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public: bytes = key.public_key().public_bytes_raw()
        self.id: str = b64(self.public)

    def __repr__(self) -> str:
        return f"Identity({self.id})"

    @classmethod
    def generate(cls, entropy: Callable[[int], bytes] = os.urandom) -> Identity:
        """A new identity."""
        return cls.from_seed(entropy(32))

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The identity of a 32-byte private seed."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Read an identity from its file (PEM, PKCS 8).

        Raises:
            FileNotFoundError: there is no such file.
            KeyFileUnsafe: others can read it, it is not ours, or it holds no Ed25519 key.
        """
        pem = _read_private(path)
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise KeyFileUnsafe(f"{path} holds no unencrypted private key") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileUnsafe(f"{path} holds a key that is not Ed25519")
        return cls(key)

    @classmethod
    def load_or_create(cls, path: Path) -> Identity:
        """Read the identity at `path`, or make one and write it there, readable by its owner alone.

        However many processes start at once, they end with the same identity; a crash half-way
        leaves either no file or a whole one. Raises KeyFileUnsafe as `load` does.
        """
        try:
            return cls.load(path)
        except FileNotFoundError:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _create_private(path, cls.generate().pem())
            return cls.load(path)

    @classmethod
    def given(cls, secret: str, path: Path) -> Identity:
        """The identity of a `secret` (see there), written to `path` where no key is yet: for disks that are wiped.

        Raises:
            Malformed: it is no such secret.
            KeyFileUnsafe: as `load` does, or another key is there.
        """
        identity = cls.from_seed(unb64(secret, 32))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create_private(path, identity.pem())
        if cls.load(path).public != identity.public:
            raise KeyFileUnsafe(f"{path} holds another key than the one that was given; one of the two has to go")
        return identity

    @property
    def secret(self) -> str:
        """The private key itself as one word of 43 characters: for a variable that nobody else can read."""
        return b64(self._key.private_bytes_raw())

    def sign(self, domain: str, message: bytes) -> bytes:
        """The signature (64 bytes) of `message` for the purpose `domain`; see `signing`."""
        return self._key.sign(framed(domain, message))

    def pem(self) -> bytes:
        """The private key itself, PKCS 8, unencrypted: for its own file and nothing else."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_from_id(identity: str) -> bytes:
    """The public key (32 bytes) that an id spells. Raises Malformed."""
    return unb64(identity, 32)


def fingerprint(public: bytes) -> str:
    """Eight groups of four hexadecimal digits, for two people to compare over the telephone (128 bits)."""
    digest = hashlib.sha256(b"grid/fingerprint\0" + public).hexdigest()
    return " ".join(digest[i : i + 4] for i in range(0, 32, 4))


def _read_private(path: Path) -> bytes:
    try:
        # NONBLOCK: a FIFO put in its place must not hang us before we can refuse it.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeyFileUnsafe(f"{path} cannot be opened as a plain file: {error.strerror}") from error
    try:
        _refuse_unsafe(path, os.fstat(handle))
        return os.read(handle, _MAX_KEY_FILE)
    finally:
        os.close(handle)


def _refuse_unsafe(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileUnsafe(f"{path} is not a plain file")
    if status.st_uid != os.geteuid():
        raise KeyFileUnsafe(f"{path} belongs to user {status.st_uid}, not to us ({os.geteuid()})")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise KeyFileUnsafe(f"{path} is open to others (mode {mode:04o}): run `chmod 600 {path}`, or replace the key")


def _create_private(path: Path, content: bytes) -> None:
    """Write a whole new file or nothing (mode 0600); a file that is already there stays."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # O_EXCL, 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _link_once(temporary, path)
    finally:
        temporary.unlink()
    _sync_directory(path.parent)


def _link_once(source: Path, target: Path) -> None:
    try:
        os.link(source, target)  # fails where a rename would overwrite
    except FileExistsError:
        return  # another process was first: its identity is the one


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
