"""A sealed payload opens for whom it was made, whole, once proved, or not at all."""

from __future__ import annotations

import itertools
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from grid.crypto.encoding import pack
from grid.crypto.envelope import Context, Header, body_size, preamble_size
from grid.crypto.errors import EnvelopeRefused, Malformed, PrekeyUnknown
from grid.crypto.hashing import WORTH
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, PrekeyPublic, publish, read_published
from grid.crypto.sealing import (
    BLOCK,
    BodySealer,
    Opener,
    RoundKey,
    open_bytes,
    open_file,
    room_for,
    seal_bytes,
    seal_file,
)

NOW = 1600.0
CHUNK = 16_384 + 16


class Party:
    """Somebody with an identity and a prekey."""

    def __init__(self, letter: bytes) -> None:
        self.identity = Identity.from_seed(letter * 32)
        self.prekey = Prekey.from_private_bytes(letter * 96)
        self.held: dict[bytes, Prekey] = {self.prekey.id: self.prekey}

    @property
    def public(self) -> PrekeyPublic:
        return read_published(publish(self.identity, self.prekey, 1000, 3000), self.identity.public, NOW)

    def opener(self, expect: Callable[[Header], None], now: float = NOW) -> Opener:
        return Opener(self.identity.public, self.held.get, expect, now)

    def opens(self, envelope: bytes, expect: Callable[[Header], None] | None = None) -> bytes:
        _, payload = open_bytes(envelope, self.identity.public, self.held.get, expect or AWAITED, NOW)
        return payload

    def refuses(self, envelope: bytes, expect: Callable[[Header], None] | None = None) -> str:
        with pytest.raises(EnvelopeRefused) as refused:
            self.opens(envelope, expect)
        return refused.value.reason


ALICE, BOB, CAROL, MALLORY = (Party(letter) for letter in (b"a", b"b", b"c", b"m"))
HEADER = Header(sender=ALICE.identity.public, kind="update", run="r", round=3, created=1500, expires=2500)
AWAITED = Context(run="r", round=3, kind="update", sender=ALICE.identity.public)
PAYLOAD = bytes(range(256)) * 250  # four chunks, the last one short
ENVELOPE = seal_bytes(ALICE.identity, HEADER, PAYLOAD, [BOB.public])
PREAMBLE = preamble_size(1, pack(replace(HEADER, length=len(PAYLOAD))))


# --- there and back -----------------------------------------------------------------------------


def test_what_alice_seals_bob_opens() -> None:
    header, payload = open_bytes(ENVELOPE, BOB.identity.public, BOB.held.get, AWAITED, NOW)

    assert payload == PAYLOAD
    assert header == replace(HEADER, length=len(PAYLOAD))


@given(
    st.binary(max_size=100) | st.integers(0, 3 * 16_384 + 1).map(bytes), st.lists(st.integers(0, 60_000), max_size=8)
)
def test_any_payload_in_any_pieces(payload: bytes, cuts: list[int]) -> None:
    envelope = seal_bytes(ALICE.identity, HEADER, payload, [BOB.public])
    opener = BOB.opener(AWAITED)
    edges = [0, *sorted(min(cut, len(envelope)) for cut in cuts), len(envelope)]

    opened = b"".join(opener.feed(envelope[a:b]) for a, b in itertools.pairwise(edges)) + opener.finish()

    assert opened == payload


@given(st.lists(st.integers(0, 40_000), max_size=6))
def test_blocks_of_any_size_fit_into_the_promised_room(sizes: list[int]) -> None:
    sealer = BodySealer(ALICE.identity, replace(HEADER, length=sum(sizes)))
    opener = BOB.opener(AWAITED)
    opener.feed(sealer.round_key.preamble([BOB.public]))
    size = 0
    for block in map(bytes, sizes):
        sealed, opened = bytearray(room_for(len(block))), bytearray(room_for(room_for(len(block))))
        written = sealer.update_into(block, sealed)
        size += opener.feed_into(sealed[:written], opened)

    size += len(opener.feed(sealer.finish())) + len(opener.finish())

    assert size == sum(sizes)


def test_a_broadcast_is_encrypted_once_and_opens_for_each() -> None:
    sealer = BodySealer(ALICE.identity, replace(HEADER, length=len(PAYLOAD)))
    body = sealer.update(PAYLOAD) + sealer.finish()

    for party in (BOB, CAROL):
        assert party.opens(sealer.round_key.preamble([party.public]) + body) == PAYLOAD
    assert BOB.opens(sealer.round_key.preamble([CAROL.public, BOB.public, MALLORY.public]) + body) == PAYLOAD


def test_a_coordinator_that_restarts_can_still_wrap_for_latecomers() -> None:
    sealer = BodySealer(ALICE.identity, replace(HEADER, length=len(PAYLOAD)))
    body, before = sealer.update(PAYLOAD) + sealer.finish(), sealer.round_key

    after = RoundKey(before.header_bytes, before.private_bytes())

    assert CAROL.opens(after.preamble([CAROL.public]) + body) == PAYLOAD
    assert str(before.private_bytes()) not in repr(before)


def test_no_two_envelopes_share_a_key() -> None:
    again = seal_bytes(ALICE.identity, HEADER, PAYLOAD, [BOB.public])

    assert again[PREAMBLE : PREAMBLE + 64] != ENVELOPE[PREAMBLE : PREAMBLE + 64]


# --- altered on the way -------------------------------------------------------------------------


@given(st.integers(0, len(ENVELOPE) - 1) | st.integers(0, PREAMBLE - 1), st.integers(0, 7))
def test_no_bit_can_change(position: int, bit: int) -> None:
    altered = bytearray(ENVELOPE)
    altered[position] ^= 1 << bit

    BOB.refuses(bytes(altered))


@given(st.integers(0, len(ENVELOPE) - 1) | st.integers(len(ENVELOPE) - 70, len(ENVELOPE) - 1))
def test_it_cannot_be_cut(length: int) -> None:
    BOB.refuses(ENVELOPE[:length])


@given(st.binary(min_size=1))
def test_nothing_can_be_added(more: bytes) -> None:
    assert BOB.refuses(ENVELOPE + more) == "trailing-bytes"


def test_chunks_cannot_change_places() -> None:
    first = PREAMBLE + 56
    a, b = ENVELOPE[first : first + CHUNK], ENVELOPE[first + CHUNK : first + 2 * CHUNK]

    assert BOB.refuses(ENVELOPE[:first] + b + a + ENVELOPE[first + 2 * CHUNK :]) == "tampered"


def test_a_failed_opening_cannot_be_finished() -> None:
    altered = bytearray(ENVELOPE)
    altered[PREAMBLE + 100] ^= 1
    opener = BOB.opener(AWAITED)
    with pytest.raises(EnvelopeRefused):
        opener.feed(altered)

    with pytest.raises(EnvelopeRefused):
        opener.feed(b"")
    with pytest.raises(EnvelopeRefused):
        opener.finish()


def test_a_wrap_of_another_envelope_does_not_fit() -> None:
    other = seal_bytes(ALICE.identity, replace(HEADER, round=4), PAYLOAD, [BOB.public])
    wrap = slice(PREAMBLE - 1192, PREAMBLE)

    assert BOB.refuses(ENVELOPE[: wrap.start] + other[wrap] + ENVELOPE[wrap.stop :]) == "tampered"


# --- the wrong people ---------------------------------------------------------------------------


def test_only_the_recipient_can_open_it() -> None:
    assert CAROL.refuses(ENVELOPE) == "wrong-recipient"


def test_a_wrap_relabelled_for_somebody_else_does_not_open() -> None:
    at = PREAMBLE - 1192
    relabelled = ENVELOPE[:at] + CAROL.identity.public + CAROL.prekey.id + ENVELOPE[at + 40 :]

    assert CAROL.refuses(relabelled) == "tampered"


def test_what_was_sealed_to_an_erased_prekey_stays_sealed() -> None:
    bob = Party(b"b")
    bob.held = {}

    with pytest.raises(PrekeyUnknown) as refused:
        bob.opens(ENVELOPE)

    assert refused.value.prekey_id == bob.prekey.id


def test_a_newer_prekey_beside_the_erased_one_is_used() -> None:
    bob = Party(b"b")
    old = bob.public
    bob.prekey = Prekey.generate()
    bob.held = {bob.prekey.id: bob.prekey}

    assert bob.opens(seal_bytes(ALICE.identity, HEADER, b"hello", [old, bob.public])) == b"hello"


def test_mallory_cannot_sign_alices_ciphertext_as_hers() -> None:
    hers = pack(replace(HEADER, sender=MALLORY.identity.public, length=len(PAYLOAD)))
    sealer = BodySealer(MALLORY.identity, replace(HEADER, sender=MALLORY.identity.public, length=len(PAYLOAD)))
    sealer._digest.update(ENVELOPE[PREAMBLE:-64])
    signature = MALLORY.identity.sign("envelope", hers + sealer._digest.digest())

    stolen = ENVELOPE[:12] + hers + ENVELOPE[12 + len(hers) : -64] + signature

    assert BOB.refuses(stolen, Context(run="r", round=3, kind="update")) == "tampered"


def test_a_recipient_cannot_make_another_body_in_alices_name() -> None:
    sealer = BodySealer(ALICE.identity, replace(HEADER, length=5))
    original = sealer.update(b"right") + sealer.finish()
    forger = BodySealer(ALICE.identity, replace(HEADER, length=5), entropy=lambda _: sealer.round_key.private_bytes())
    forged = forger.update(b"wrong") + forger.finish()[:-64] + original[-64:]

    assert BOB.refuses(sealer.round_key.preamble([BOB.public]) + forged) == "bad-signature"


def test_a_message_for_bob_alone_cannot_be_passed_on_as_one_for_carol() -> None:
    header = replace(HEADER, audience=BOB.identity.public, length=5)
    sealer = BodySealer(ALICE.identity, header)
    body = sealer.update(b"hello") + sealer.finish()
    with pytest.raises(ValueError, match="addressed"):
        sealer.round_key.wrap(CAROL.public)
    bobs_key = RoundKey(sealer.round_key.header_bytes, sealer.round_key.private_bytes())
    bobs_key.header = replace(header, audience=b"")  # Bob's own program would wrap it all the same

    direct = Context(run="r", round=3, kind="update", direct=True)
    assert BOB.opens(sealer.round_key.preamble([BOB.public]) + body, direct) == b"hello"
    assert CAROL.refuses(bobs_key.preamble([CAROL.public]) + body) == "wrong-recipient"


def test_a_sender_can_only_seal_in_its_own_name() -> None:
    with pytest.raises(ValueError, match="another sender"):
        BodySealer(MALLORY.identity, HEADER)


def test_a_prekey_that_is_no_key_stops_only_its_own_wrap() -> None:
    broken = PrekeyPublic(b"x" * 8, b"\xff" * 1216, 1000, 3000, CAROL.identity.public)

    with pytest.raises(Malformed):
        seal_bytes(ALICE.identity, HEADER, b"", [broken])


# --- the wrong time, place or size --------------------------------------------------------------


def test_a_replay_in_another_round_or_run_is_refused() -> None:
    assert BOB.refuses(ENVELOPE, Context(run="r", round=4, kind="update")) == "wrong-context"
    assert BOB.refuses(ENVELOPE, Context(run="s", round=3, kind="update")) == "wrong-context"


def test_an_expired_envelope_is_refused() -> None:
    with pytest.raises(EnvelopeRefused, match="expired"):
        BOB.opener(AWAITED, now=2500).feed(ENVELOPE)


def test_nothing_is_decrypted_before_the_header_is_accepted() -> None:
    opener = Opener(
        BOB.identity.public, lambda _: pytest.fail("it looked for a key"), Context(run="s", round=3, kind="update"), NOW
    )

    with pytest.raises(EnvelopeRefused, match="wrong-context"):
        opener.feed(ENVELOPE)


@pytest.mark.parametrize("size", [0, 4, 6, 100_000])
def test_a_payload_of_another_length_than_the_header_says_is_not_sealed(size: int) -> None:
    sealer = BodySealer(ALICE.identity, replace(HEADER, length=5))
    sealer.update(bytes(size))

    with pytest.raises(ValueError, match="header"):
        sealer.finish()


@pytest.mark.parametrize("said", [4, 6, 16_384])
def test_a_sender_that_lies_about_the_length_is_refused(said: int) -> None:
    liar = BodySealer(ALICE.identity, replace(HEADER, length=said))
    liar._left = 5

    BOB.refuses(liar.round_key.preamble([BOB.public]) + liar.update(b"right") + liar.finish())


def test_an_output_buffer_that_may_overflow_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="too small"):
        BOB.opener(AWAITED).feed_into(ENVELOPE, bytearray(len(ENVELOPE)))


# --- files --------------------------------------------------------------------------------------

LARGE = bytes(range(256)) * (BLOCK // 256 * 2 + 100)


@pytest.mark.parametrize("payload", [b"", b"small", LARGE, bytes(WORTH + 1)])
def test_a_file_for_one_recipient_is_a_whole_envelope(tmp_path: Path, payload: bytes) -> None:
    (tmp_path / "plain").write_bytes(payload)

    seal_file(ALICE.identity, HEADER, tmp_path / "plain", tmp_path / "sealed", [BOB.public])
    header = open_file(tmp_path / "sealed", tmp_path / "opened", BOB.opener(AWAITED))

    assert (tmp_path / "opened").read_bytes() == payload
    assert (tmp_path / "opened").stat().st_mode & 0o777 == 0o600
    assert header.length == len(payload)


def test_a_file_for_many_is_sealed_once_and_sent_after_each_ones_preamble(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(LARGE)

    key = seal_file(ALICE.identity, HEADER, tmp_path / "plain", tmp_path / "body")

    assert (tmp_path / "body").stat().st_size == body_size(len(LARGE)) + 64
    for party in (BOB, CAROL):
        opener = party.opener(AWAITED)
        opener.feed(key.preamble([party.public]))
        open_file(tmp_path / "body", tmp_path / "opened", opener)
        assert (tmp_path / "opened").read_bytes() == LARGE


def test_an_envelope_that_is_refused_leaves_no_plaintext_behind(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(LARGE)
    (tmp_path / "opened").write_bytes(b"what was there")
    seal_file(ALICE.identity, HEADER, tmp_path / "plain", tmp_path / "sealed", [BOB.public])
    sealed = (tmp_path / "sealed").read_bytes()
    (tmp_path / "sealed").write_bytes(sealed[:-40] + bytes([sealed[-40] ^ 1]) + sealed[-39:])

    with pytest.raises(EnvelopeRefused):
        open_file(tmp_path / "sealed", tmp_path / "opened", BOB.opener(AWAITED))

    assert (tmp_path / "opened").read_bytes() == b"what was there"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["opened", "plain", "sealed"]


# --- known answers ------------------------------------------------------------------------------


def test_an_envelope_sealed_by_version_one_opens_for_ever() -> None:
    frozen = b64decode(Path(__file__).with_name("envelope_v1.txt").read_text())

    assert BOB.opens(frozen) == b"sealed by version one"


def test_known_header() -> None:
    assert pack(HEADER).hex() == (
        "9c0101c420" + ALICE.identity.public.hex() + "c400" + "a6757064617465" + "a0" + "a172" + "0300cd05dccd09c400"
    )
