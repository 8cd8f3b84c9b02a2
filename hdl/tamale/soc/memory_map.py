"""What a program sees of a system: regions, interrupts, constants. The generators read nothing
else."""

import dataclasses
import re

from .registers import Block

__all__ = ["Region", "System"]


@dataclasses.dataclass(frozen=True)
class Region:
    """A range of addresses.

    Parameters
    ----------
    name : str
        Lower-case identifier.
    base, size : int
        First byte address and number of bytes.
    doc : str
        One sentence.
    block : Block or None
        The registers at this place; None for memory.
    cached : bool
        Whether the CPU's caches, if it has any, keep copies.
    executable : bool
        Whether programs may be placed here.

    Raises
    ------
    TypeError, ValueError
        If any of these is not so.
    """

    name: str
    base: int
    size: int
    doc: str
    _: dataclasses.KW_ONLY
    block: Block | None = None
    cached: bool = False
    executable: bool = False

    def __post_init__(self):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"region name must be a lower-case identifier, not {self.name!r}")
        if not 0 <= self.base < self.base + self.size <= 1 << 32:
            raise ValueError(
                f"region {self.name!r} at {self.base:#x} with {self.size:#x} bytes leaves the "
                "32-bit address space; move or shrink it"
            )
        if self.block is not None and not isinstance(self.block, Block):
            raise TypeError(f"region {self.name!r} needs a Block or None, not {self.block!r}")
        if self.block is not None and self.block.size > self.size:
            raise ValueError(
                f"block {self.block.name!r} of {self.block.size:#x} bytes does not fit region "
                f"{self.name!r} of {self.size:#x}; enlarge the region"
            )


@dataclasses.dataclass(frozen=True)
class System:
    """Everything that the generators of header, linker script, SVD and documents need.

    Parameters
    ----------
    name : str
        Name of the configuration; generated files say it.
    regions : sequence of Region
        They must not overlap.
    interrupts : dict of str to int
        Line of the CPU's interrupt input for each source.
    constants : dict of str to int or str
        Names in capitals; the C header defines them with the prefix ``TAMALE_``.

    Raises
    ------
    ValueError
        If regions overlap, or names or interrupt lines repeat.
    """

    name: str
    regions: tuple
    interrupts: dict = dataclasses.field(default_factory=dict)
    constants: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        regions = tuple(sorted(self.regions, key=lambda region: region.base))
        object.__setattr__(self, "regions", regions)
        for first, second in zip(regions, regions[1:], strict=False):
            if first.base + first.size > second.base:
                raise ValueError(
                    f"region {second.name!r} at {second.base:#x} overlaps {first.name!r}, which "
                    f"ends at {first.base + first.size:#x}; move one of them"
                )
        names = [region.name for region in regions]
        if len(set(names)) != len(names):
            raise ValueError(f"regions need different names, not {names!r}")
        lines = list(self.interrupts.values())
        if len(set(lines)) != len(lines) or not all(0 <= line < 32 for line in lines):
            raise ValueError(
                f"interrupts need different lines from 0 to 31, not {self.interrupts!r}"
            )
        for constant, value in self.constants.items():
            if not re.fullmatch(r"[A-Z][A-Z0-9_]*", constant):
                raise ValueError(f"constant {constant!r} must be written in capitals")
            if not isinstance(value, int | str):
                raise TypeError(f"constant {constant!r} must be int or str, not {value!r}")

    def __getitem__(self, name):
        """Give the region called ``name``."""
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(
            f"no region is called {name!r}; known: {', '.join(r.name for r in self.regions)}"
        )

    @property
    def memories(self):
        """Regions without registers."""
        return tuple(region for region in self.regions if region.block is None)

    @property
    def peripherals(self):
        """Regions with registers."""
        return tuple(region for region in self.regions if region.block is not None)
