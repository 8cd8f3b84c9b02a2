"""All figures together: constants, workloads, platforms, and what a user says of them."""

import dataclasses
from importlib import resources
from pathlib import Path

from tamale_model import readers
from tamale_model.explore import platform, workload
from tamale_model.explore.quantity import DataError, merge, quantity, read_toml
from tamale_model.readers import structure

__all__ = ["World", "load"]

_DATA = resources.files(__package__) / "data"
_TABLES = ("constants", "workloads", "platforms")

#: Constants that may be zero at some end of their range.
_ZERO = {"royalties", "multipliers_on_trits"}


@dataclasses.dataclass(frozen=True)
class World:
    """What is known.

    Parameters
    ----------
    constants : dict of str to Quantity
        By dotted name: ``"process.28nm.wafer"``.
    workloads : dict of str to Workload
    platforms : dict of str to Platform
    """

    constants: dict
    workloads: dict
    platforms: dict

    def __getitem__(self, name):
        """A constant."""
        return self.constants[name]

    def workload(self, name):
        """Return a workload: a card's name, or the path of a checkpoint that `inspect` reads.

        Raises
        ------
        DataError, CheckpointError
        """
        if name in self.workloads:
            return self.workloads[name]
        demonstration = name == "demonstration"
        path = Path(str(resources.files("tamale_model") / "data" / "demo"))
        path = path if demonstration else Path(name)
        if not demonstration and not path.exists():
            raise DataError(
                f"unknown model {name!r}; name a checkpoint, `demonstration`, or one of "
                f"{', '.join(self.workloads)}"
            )
        skeleton = readers.open_skeleton(path)
        card = workload.of_graph(
            skeleton.graph,
            trits=_trits(skeleton.plans().values()),
            sub_norms=skeleton.norms[0].get("attention_norm") is not None,
            title="demonstration model" if demonstration else path.name,
            origin=f"header of {path.name}",
        )
        return dataclasses.replace(card, name=name) if demonstration else card

    def platform(self, name):
        """Return a platform.

        Raises
        ------
        DataError
        """
        if name not in self.platforms:
            raise DataError(
                f"unknown platform {name!r}; use one of {', '.join(self.platforms)}, or describe "
                "it in a TOML file and pass that with --assume"
            )
        return self.platforms[name]


def _trits(plans):
    """Trits of a card for a checkpoint's plans; floats as `tamale quantise` makes them."""
    planes, groups = [1], []
    for plan in plans:
        float_ = plan.level == structure.FLOAT
        planes.append(3 if float_ else plan.planes)
        if float_ or plan.level == structure.GROUP:
            groups.append(plan.group_size or 128)
    return {"weights": max(planes), "group": min(groups, default=0)}


def _constants(tables, file, user=False, prefix=""):
    flat = {}
    for name, entry in tables.items():
        if isinstance(entry, dict) and "value" not in entry:
            flat |= _constants(entry, file, user, f"{prefix}{name}.")
        else:
            key = f"{prefix}{name}"
            flat[key] = quantity(entry, key, file=file, positive=name not in _ZERO, user=user)
    return flat


def load(assume=()):
    """Return the `World`.

    Parameters
    ----------
    assume : sequence of path
        TOML files of a user, later ones over earlier ones: tables ``constants``, ``workloads`` and
        ``platforms``, of which any part may be given. A new platform or workload may start from
        another one: ``base = "name"``.

    Raises
    ------
    DataError
    """
    data = {"constants": read_toml(Path("constants.toml"), (_DATA / "constants.toml").read_text())}
    files, users = {}, set()
    for table in ("workloads", "platforms"):
        entries = sorted((_DATA / table).iterdir(), key=lambda file: file.name)
        data[table] = {
            file.name[:-5]: read_toml(file, file.read_text())
            for file in entries
            if file.name.endswith(".toml")
        }
        files[table] = {name: f"{name}.toml" for name in data[table]}
    constants = _constants(data["constants"], "constants.toml")
    for path in map(Path, assume):
        changes = read_toml(path)
        for table in changes:
            if table not in _TABLES:
                raise DataError(f"{path}: unknown table {table!r}; use {', '.join(_TABLES)}")
        for name, entry in _constants(changes.get("constants", {}), str(path), user=True).items():
            if name not in constants:
                raise DataError(
                    f"{path}: unknown constant {name!r}; see `tamale explore constants`"
                )
            unit = entry.unit or constants[name].unit
            constants[name] = dataclasses.replace(entry, unit=unit)
        for table in ("workloads", "platforms"):
            for name, entry in changes.get(table, {}).items():
                entry = dict(entry)
                base = entry.pop("base", name)
                if base not in data[table] and base != name:
                    raise DataError(f"{path}: {name} starts from {base!r}, which is not known")
                data[table][name] = merge(data[table].get(base, {}), entry)
                files[table][name] = str(path)
                users.add((table, name))
    parsed = {}
    for table, parse in (("workloads", workload.parse), ("platforms", platform.parse)):
        parsed[table] = {
            name: parse(name, entry, file=files[table][name], user=(table, name) in users)
            for name, entry in data[table].items()
        }
    return World(constants, parsed["workloads"], parsed["platforms"])
