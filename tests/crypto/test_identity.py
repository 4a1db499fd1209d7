"""An identity lives in one file that nobody else can read."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from grid.crypto.errors import KeyFileUnsafe, Malformed
from grid.crypto.identity import Identity, fingerprint, public_from_id


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_first_start_makes_a_key_that_only_we_can_read(tmp_path: Path) -> None:
    path = tmp_path / "node" / "identity.pem"

    first = Identity.load_or_create(path)

    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert [p.name for p in path.parent.iterdir()] == ["identity.pem"]
    assert Identity.load_or_create(path).id == first.id


def test_processes_that_start_together_share_one_identity(tmp_path: Path) -> None:
    path = tmp_path / "identity.pem"

    with ThreadPoolExecutor(16) as pool:
        found = {identity.id for identity in pool.map(lambda _: Identity.load_or_create(path), range(64))}

    assert found == {Identity.load(path).id}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("open_to", [0o640, 0o604, 0o660, 0o700 | 0o001])
def test_a_key_that_others_can_open_is_not_used(tmp_path: Path, open_to: int) -> None:
    path = tmp_path / "identity.pem"
    Identity.load_or_create(path)
    path.chmod(open_to)

    with pytest.raises(KeyFileUnsafe, match="chmod 600"):
        Identity.load_or_create(path)


def test_a_link_or_a_pipe_or_a_folder_is_not_a_key_file(tmp_path: Path) -> None:
    Identity.load_or_create(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)

    for name in ("link", "pipe", "folder"):
        with pytest.raises(KeyFileUnsafe, match="plain file"):
            Identity.load_or_create(tmp_path / name)


def test_a_file_that_holds_something_else_is_neither_used_nor_replaced(tmp_path: Path) -> None:
    other = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    for content in (b"", b"not a key", other, b"x" * 100_000):
        path = tmp_path / "identity.pem"
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(KeyFileUnsafe):
            Identity.load_or_create(path)
        assert path.read_bytes() == content


def test_an_id_spells_the_public_key() -> None:
    identity = Identity.generate()

    assert len(identity.id) == 43
    assert public_from_id(identity.id) == identity.public
    assert identity.id in repr(identity)


@pytest.mark.parametrize(
    "text", ["", "A" * 42, "A" * 44, "A" * 42 + "=", "A" * 42 + "B", "A" * 42 + "é", "A" * 42 + "+"]
)
def test_only_the_one_spelling_of_a_key_is_its_id(text: str) -> None:
    with pytest.raises(Malformed):
        public_from_id(text)


def test_known_answers() -> None:
    identity = Identity.from_seed(bytes(range(32)))

    assert identity.id == "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
    assert fingerprint(identity.public) == "352e 3e4f 0717 ae31 8923 b4cd 5942 f3cb"


def test_a_secret_makes_the_file_that_was_wiped_and_gives_way_to_no_other_key(tmp_path: Path) -> None:
    made = Identity.load_or_create(tmp_path / "one" / "identity.key")
    again = Identity.given(made.secret, tmp_path / "two" / "identity.key")

    assert again.public == made.public == Identity.load(tmp_path / "two" / "identity.key").public
    assert Identity.given(made.secret, tmp_path / "two" / "identity.key").public == made.public
    with pytest.raises(KeyFileUnsafe, match="another key"):
        Identity.given(Identity.generate().secret, tmp_path / "two" / "identity.key")
    with pytest.raises(Malformed):
        Identity.given("short", tmp_path / "three" / "identity.key")
