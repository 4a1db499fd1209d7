"""A secure sum from end to end, in memory: keys, shares, masks, drop-outs at each step, a coordinator that looks."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from grid.crypto import masks, shares
from grid.crypto.errors import EnvelopeRefused
from grid.learning.masking import Quantiser, Ring, mask
from grid.protocol import secure_sum as rules
from grid.protocol.neighbours import Circle
from grid.wire.problems import SumRefused

NAMES = ("ann", "bob", "carol", "dan", "eve", "fay", "gus")
THRESHOLD = rules.usual_threshold(len(NAMES))
NUMBERS = 5_000


@dataclass
class Node:
    """One node of a sum: `values` are its own."""

    name: str
    values: np.ndarray
    mask_key: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    share_key: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    secret: bytes = field(default_factory=lambda: os.urandom(32))
    held: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)

    def public(self) -> masks.RoundKeys:
        mine, other = (key.public_key().public_bytes_raw() for key in (self.mask_key, self.share_key))
        return masks.RoundKeys(node=self.name.encode().ljust(32), masks=mine, shares=other)

    def told(self, roster: dict[str, masks.RoundKeys], transcript: bytes) -> None:
        self.part = rules.took_part(self.name, tuple(roster), THRESHOLD, rules.Terms(3), Circle(roster, THRESHOLD, b""))
        self.roster, self.transcript = roster, transcript

    def deal(self) -> dict[str, bytes]:
        """The two shares for each node, sealed for it."""
        own = shares.split(self.secret, THRESHOLD, len(self.roster))
        key = shares.split(self.mask_key.private_bytes_raw(), THRESHOLD, len(self.roster))
        return {
            name: masks.seal_shares(self.share_key, keys.shares, self.transcript, own[at] + key[at])
            for at, (name, keys) in enumerate(self.roster.items())
        }

    def hand_in(self, dealt: dict[str, bytes], quantiser: Quantiser) -> Ring:
        self.part, _ = rules.advance(self.part, rules.SharesCame(frozenset(dealt)))
        for name, sealed in dealt.items():
            both = masks.open_shares(self.share_key, self.roster[name].shares, self.transcript, sealed)
            self.held[name] = both[: shares.SHARE_BYTES], both[shares.SHARE_BYTES :]
        vector = quantiser.quantise(self.values, np.random.default_rng(1))
        seeds = {name: masks.pair_seed(self.mask_key, self.roster[name].masks, self.transcript) for name in dealt}
        added = [seed for name, seed in seeds.items() if self.name < name]
        mask(
            vector,
            [*added, masks.self_seed(self.secret, self.transcript)],
            [seed for name, seed in seeds.items() if self.name > name],
        )
        self.part, _ = rules.advance(self.part, rules.VectorSent())
        return vector

    def reveal(self, survivors: frozenset[str]) -> tuple[dict[str, bytes], dict[str, bytes]]:
        self.part, (told,) = rules.advance(self.part, rules.SurvivorsNamed(survivors, survivors))
        return {name: self.held[name][0] for name in told.masks}, {name: self.held[name][1] for name in told.keys}


def lift(
    total: Ring, nodes: dict[str, Node], survivors: frozenset[str], dealers: frozenset[str], answers: list[str]
) -> None:
    """What a coordinator does with what was revealed: take the masks off the sum, in place."""
    roster, transcript = nodes[answers[0]].roster, nodes[answers[0]].transcript
    place = {name: at for at, name in enumerate(roster, start=1)}
    revealed = {name: nodes[name].reveal(survivors) for name in answers}
    for name in survivors:
        secret = shares.combine({place[a]: revealed[a][0][name] for a in answers}, THRESHOLD)
        mask(total, (), [masks.self_seed(secret, transcript)])
    for gone in dealers - survivors:
        secret = shares.combine({place[a]: revealed[a][1][gone] for a in answers}, THRESHOLD)
        key = X25519PrivateKey.from_private_bytes(secret)
        for name in survivors:
            seed = masks.pair_seed(key, roster[name].masks, transcript)
            mask(total, [seed] if gone < name else (), [seed] if gone > name else ())


def a_grid() -> dict[str, Node]:
    rng = np.random.default_rng(3)
    return {name: Node(name, rng.uniform(-1, 1, NUMBERS).astype(np.float32)) for name in NAMES}


@pytest.mark.parametrize("gone", [(), ("carol",), ("carol", "ann")], ids=["nobody", "one", "two"])
@pytest.mark.parametrize("step", ["keys", "shares", "vectors", "reveal"])
def test_the_sum_is_that_of_the_survivors_whoever_is_gone_at_whichever_step(gone: tuple[str, ...], step: str) -> None:
    nodes, quantiser = a_grid(), Quantiser(1.0, len(NAMES))
    roster = {name: node.public() for name, node in nodes.items() if step != "keys" or name not in gone}
    transcript = a_transcript(tuple(roster.values())).digest()
    for name in roster:
        nodes[name].told(roster, transcript)
    dealt = {name: nodes[name].deal() for name in roster if step != "shares" or name not in gone}
    handing = [name for name in dealt if step != "vectors" or name not in gone]
    vectors = {
        name: nodes[name].hand_in({d: sealed[name] for d, sealed in dealt.items()}, quantiser) for name in handing
    }
    total = np.add.reduce(list(vectors.values()), dtype=np.uint32)
    answers = [name for name in vectors if step != "reveal" or name not in gone]

    lift(total, nodes, frozenset(vectors), frozenset(dealt), answers)

    wanted = np.mean([nodes[name].values.astype(np.float64) for name in vectors], axis=0)
    np.testing.assert_allclose(quantiser.mean(total, len(vectors)), wanted, rtol=0, atol=1e-8)


def test_one_vector_by_itself_cannot_be_had_by_naming_a_survivor_dead() -> None:
    nodes, quantiser = a_grid(), Quantiser(1.0, len(NAMES))
    roster = {name: node.public() for name, node in nodes.items()}
    for node in nodes.values():
        node.told(roster, a_transcript(tuple(roster.values())).digest())
    dealt = {name: node.deal() for name, node in nodes.items()}
    for name, node in nodes.items():
        node.hand_in({d: sealed[name] for d, sealed in dealt.items()}, quantiser)
    everybody = frozenset(NAMES)
    nodes["bob"].reveal(everybody)

    with pytest.raises(SumRefused, match="another set"):
        nodes["bob"].reveal(everybody - {"ann"})


def test_a_node_that_was_told_of_another_model_spoils_the_sum_rather_than_be_read() -> None:
    nodes, quantiser = a_grid(), Quantiser(1.0, len(NAMES))
    roster = {name: node.public() for name, node in nodes.items()}
    one, other = (a_transcript(tuple(roster.values()), model=model).digest() for model in (b"m" * 32, b"n" * 32))
    for name, node in nodes.items():
        node.told(roster, other if name == "ann" else one)
    sealed_by_ann = nodes["ann"].deal()

    with pytest.raises(EnvelopeRefused):
        nodes["bob"].hand_in({"ann": sealed_by_ann["bob"], **{n: nodes[n].deal()["bob"] for n in NAMES[1:]}}, quantiser)


def a_transcript(roster: tuple[masks.RoundKeys, ...], model: bytes = b"m" * 32) -> masks.Transcript:
    return masks.Transcript(
        run="r",
        round=1,
        plan=b"p" * 32,
        model=model,
        strategy=b"s" * 32,
        roster=roster,
        threshold=THRESHOLD,
        range_=1.0,
        numbers=NUMBERS,
    )
