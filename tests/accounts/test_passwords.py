"""What is kept of a password."""

from __future__ import annotations

import hashlib

from grid.accounts.passwords import Effort, fits, is_old, kept

QUICK = Effort(memory=8, passes=1)


def test_only_the_password_fits_and_no_two_are_kept_alike() -> None:
    first, second = kept("correct horse", QUICK), kept("correct horse", QUICK)

    assert first != second
    assert first.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert (fits("correct horse", first), fits("Correct horse", first), is_old(first)) == (True, False, False)


def test_what_an_earlier_version_kept_still_fits() -> None:
    salt = b"s" * 16
    old = f"$scrypt${salt.hex()}${hashlib.scrypt(b'correct horse', salt=salt, n=2**14, r=8, p=1).hex()}"

    assert (fits("correct horse", old), fits("another", old), is_old(old)) == (True, False, True)
