"""Tags to members: an answer costs what it holds, not how many members are listed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class TagIndex:
    """Which findable members have which words (tags, or models).

    Holds only members that a search may name: whoever calls it takes out those that went away.
    A word of one member is kept as that member's id alone, since most words are of one member:
    a set costs 216 bytes.
    """

    def __init__(self) -> None:
        self._holders: dict[str, str | set[str]] = {}

    def add(self, node_id: str, words: Iterable[str]) -> None:
        """List a member under each of its words; again is the same as once."""
        for word in words:
            holders = self._holders.get(word)
            if holders is None:
                self._holders[word] = node_id
            elif isinstance(holders, set):
                holders.add(node_id)
            elif holders != node_id:
                self._holders[word] = {holders, node_id}

    def remove(self, node_id: str, words: Iterable[str]) -> None:
        """Take a member out; `words` are those it was added with."""
        for word in words:
            holders = self._holders.get(word)
            if isinstance(holders, set):
                holders.discard(node_id)
            if not holders or holders == node_id:
                self._holders.pop(word, None)

    def having_all(self, words: Iterable[str]) -> set[str]:
        """Members that have every word, starting from the rarest; all words of nothing name nobody."""
        holders = [self._having(word) for word in words]
        if not holders:
            return set()
        holders.sort(key=len)
        return holders[0].intersection(*holders[1:])

    def having_any(self, words: Iterable[str]) -> set[str]:
        """Members that have at least one of the words."""
        return set[str]().union(*(self._having(word) for word in words))

    def words(self) -> list[str]:
        """Every word that some member has, sorted."""
        return sorted(self._holders)

    def __len__(self) -> int:
        return len(self._holders)

    def __iter__(self) -> Iterator[str]:
        return iter(self._holders)

    def _having(self, word: str) -> set[str]:
        holders = self._holders.get(word, set())
        return holders if isinstance(holders, set) else {holders}
