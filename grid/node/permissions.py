"""Who may find, read and train on which dataset of this node. What one may not find is in no list and in no error."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import partial

from msgspec.structs import replace

from grid.node.access import Asker
from grid.node.catalogue import Catalogue
from grid.protocol.permission import WHOLE, Action, Permission, Rules, at_large
from grid.store import datasets as rows
from grid.store.database import Database
from grid.store.datasets import Dataset
from grid.wire import permissions as wire
from grid.wire.node import DatasetInfo, Datasets
from grid.wire.problems import DatasetNotFound, DatasetRefused, NotAllowed, NotFound

NOBODY = Rules()


class Permissions:
    """The datasets of a catalogue, as far as one who asks may have to do with them."""

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database, self._catalogue = database, catalogue
        self._said = database.read_now(rows.permissions)
        self._rules = {name: Rules(said) for name, said in self._said.items()}

    # --- asking -------------------------------------------------------------------------------------

    def may(self, asker: Asker, action: Action, dataset: Dataset, tensor: str = WHOLE) -> bool:
        """Whether somebody may do that with a dataset, or with one tensor of it."""
        if asker.owner:
            return True
        otherwise = at_large(dataset.visibility, action, account=asker.account is not None) or (
            asker.trusted and action == "train" and dataset.visibility != "hidden"
        )
        rules = self._rules.get(dataset.info.name, NOBODY)
        return rules.allows(otherwise, action, asker.account, asker.groups, tensor)

    def page(self, asker: Asker, after: str = "", limit: int = 100) -> Datasets:
        """The datasets that somebody may find, in order of name, from behind `after` on."""
        names, found = self._catalogue.names, list[DatasetInfo]()
        for name in names[bisect_right(names, after) :]:
            dataset = self._catalogue.dataset(name)
            if self.may(asker, "find", dataset):
                if len(found) == limit:
                    return Datasets(tuple(found), more=True)
                found.append(self._seen(asker, dataset))
        return Datasets(tuple(found))

    def info(self, asker: Asker, name: str) -> DatasetInfo:
        """What somebody is told about a dataset. Raises DatasetNotFound."""
        return self._seen(asker, self._found(asker, name))

    def find(self, asker: Asker, tags: Sequence[str]) -> DatasetInfo | None:
        """The dataset with all the tags that somebody may find; as `Catalogue.find` chooses."""
        found = self._catalogue.find(tags, partial(self.may, asker, "find"))
        return None if found is None else self._catalogue.dataset(found.name).info

    def check_read(self, asker: Asker, name: str, tensor: str) -> None:
        """Whether somebody may download a tensor.

        Raises:
            DatasetNotFound: there is no such tensor that they may find.
            NotAllowed: they may not.
        """
        dataset = self._found(asker, name)
        if tensor not in {each.name for each in self._seen(asker, dataset).tensors}:
            raise DatasetNotFound(f"dataset {name} has no tensor {tensor}")
        if not self.may(asker, "read", dataset, tensor):
            raise NotAllowed(f"the data of {name} stays here; ask for access to {tensor}")

    def check_train(self, asker: Asker, name: str, tensors: Iterable[str]) -> None:
        """Whether a plan of somebody may learn from these tensors.

        Raises:
            NotAllowed: it may not; of tensors that they may not find nothing is said.
            DatasetNotFound: there is no such dataset or tensor that they may find.
        """
        dataset, tensors = self._found(asker, name), tuple(tensors)
        if missing := set(tensors) - self.seen(asker, name):
            raise DatasetNotFound(f"dataset {name!r} has no tensor {', '.join(sorted(missing))}")
        if closed := [tensor for tensor in tensors if not self.may(asker, "train", dataset, tensor)]:
            raise NotAllowed(f"you may not learn from {', '.join(closed)} of {name}; ask for access")

    def check_ask(self, asker: Asker, name: str) -> None:
        """Whether somebody may ask questions of all of a dataset. Raises NotAllowed, DatasetNotFound."""
        dataset = self._found(asker, name)
        whole = {each.name for each in dataset.info.tensors}
        if self.seen(asker, name) != whole or not all(self.may(asker, "train", dataset, each) for each in whole):
            raise NotAllowed(f"you may not learn from all of {name}, which an analysis needs; ask for access")

    def seen(self, asker: Asker, name: str) -> set[str]:
        """The tensors of a dataset that somebody may find. Raises DatasetNotFound."""
        return {each.name for each in self.info(asker, name).tensors}

    def mock_of(self, asker: Asker, name: str) -> str:
        """The digest of a dataset's mock. Raises DatasetNotFound; NotFound where its owner made none."""
        dataset = self._found(asker, name)
        if not dataset.mock or len(self.seen(asker, name)) < len(dataset.info.tensors):  # it has them all
            raise NotFound(f"{name} has no mock that its owner made; make one from its description")
        return dataset.mock

    def _found(self, asker: Asker, name: str) -> Dataset:
        dataset = self._catalogue.dataset(name)
        if not self.may(asker, "find", dataset):
            raise DatasetNotFound(f"there is no dataset named {name}")
        return dataset

    def _seen(self, asker: Asker, dataset: Dataset) -> DatasetInfo:
        """A description without the tensors that somebody may not find, and their columns."""
        info = dataset.info
        if dataset.info.name not in self._rules or asker.owner:
            return info
        seen = {each.name for each in info.tensors if self.may(asker, "find", dataset, each.name)}
        if len(seen) == len(info.tensors):
            return info
        return replace(
            info,
            tensors=tuple(each for each in info.tensors if each.name in seen),
            columns=tuple(each for each in info.columns if each.tensor in seen),
            target=info.target if info.target in seen else None,
            classes=info.classes if info.target in seen else (),
        )

    # --- for those who may say it ---------------------------------------------------------------------

    async def permit(self, name: str, said: wire.Permit) -> None:
        """Let somebody do something, or not, or say no more about it.

        Raises:
            DatasetNotFound, DatasetRefused: there is no such dataset or tensor.
            NotFound: nothing was said that could be unsaid.
        """
        dataset = self._catalogue.dataset(name)
        permission = _permission(said)
        if said.tensor is not None and said.tensor not in {each.name for each in dataset.info.tensors}:
            raise DatasetRefused(f"dataset {name} has no tensor {said.tensor}")
        if permission.subject == "tensor" and said.tensor is None:
            raise DatasetRefused("name a user, a group or a tensor; for all who ask, set the dataset's visibility")
        if said.allow is None:
            if not await self._database.write(partial(rows.unsay, dataset=name, said=permission)):
                raise NotFound("nothing of the kind was said")
        else:
            await self._database.write(partial(rows.permit, dataset=name, said=permission))
        self._said = await self._database.read(rows.permissions)
        self._rules = {each: Rules(said) for each, said in self._said.items()}

    def told(self, name: str) -> wire.Permitted:
        """All that is said about a dataset. Raises DatasetNotFound."""
        dataset = self._catalogue.dataset(name)
        said = tuple(_permit(each) for each in self._said.get(name, ()))
        return wire.Permitted(dataset.visibility, said, mock=bool(dataset.mock))

    def forget(self, name: str) -> None:
        """A dataset is gone; what was said about it went with it."""
        self._said.pop(name, None)
        self._rules.pop(name, None)


def _permission(said: wire.Permit) -> Permission:
    if said.user is not None and said.group is not None:
        raise DatasetRefused("name a user or a group, not both")
    subject = "user" if said.user is not None else "group" if said.group is not None else "tensor"
    return Permission(subject, said.user or said.group or "", said.tensor or WHOLE, said.action, bool(said.allow))  # type: ignore[arg-type]


def _permit(said: Permission) -> wire.Permit:
    user, group = (said.name if said.subject == each else None for each in ("user", "group"))
    return wire.Permit(said.action, said.allow, user, group, said.tensor or None)
