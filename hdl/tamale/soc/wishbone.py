"""Wishbone B4 buses of the system: signature, arbiter, and a decoder that never hangs.

``amaranth_soc`` is not published under its own name; ``luna-soc`` carries it. This is the only file
that knows so. Taken from it: :class:`Signature`, :class:`Interface`, :class:`CycleType`. Written
here, because with the library's the CPU can wait for ever: :class:`Decoder`, since its decoder does
not answer an access outside every window, and :class:`Arbiter`, since its arbiter never takes the
bus from an initiator that starts the next access at once (VexRiscv without caches does). Its 32-bit
CSR bridge does not attach to a byte-addressed bus.

Source: Wishbone B4, chapters 3 (classic cycles) and 4 (registered feedback, ``cti``).
"""

import luna_soc  # noqa: F401  (puts the vendored amaranth_soc on the import path)
from amaranth import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth_soc.wishbone import CycleType, Interface, Signature

__all__ = [
    "Arbiter", "CycleType", "Decoder", "Interface", "Signature", "Slice", "initiator", "target",
]  # fmt: skip


def initiator():
    """Give the signature of the system bus as the CPU sees it: 32-bit words, byte lanes, bursts.

    Every initiator and every target of the system has this signature; ``adr`` counts words.
    """
    return Signature(addr_width=30, data_width=32, granularity=8, features={"err", "cti", "bte"})


def target(size):
    """Give the signature of a target that occupies ``size`` bytes.

    Parameters
    ----------
    size : int
        Bytes, a power of two from 8 to 4 GiB.

    Raises
    ------
    ValueError
        If ``size`` is not such a number.
    """
    if not isinstance(size, int) or not 8 <= size <= 1 << 32 or size & (size - 1):
        raise ValueError(
            f"a Wishbone window must be a power of two from 8 to 4 GiB, not {size!r} bytes; "
            "round it up"
        )
    return Signature(
        addr_width=size.bit_length() - 3,
        data_width=32,
        granularity=8,
        features={"err", "cti", "bte"},
    )


class Slice(wiring.Component):
    """Registers on the way to a target: accesses take a cycle more and are a cycle further apart.

    Parameters
    ----------
    signature : Signature
        Of the target.
    pause : int
        Cycles more between two accesses, for a target that needs them.

    Members
    -------
    bus : In(signature)
        Initiator's side; ``cyc`` may be dropped at any time.
    target : Out(signature)
    """

    def __init__(self, signature, *, pause=0):
        self._pause = pause
        super().__init__({"bus": In(signature), "target": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        bus, target = self.bus, self.target
        ended, left = Signal(), Signal(range(self._pause + 1))
        m.d.comb += [
            ended.eq(target.cyc & (target.ack | target.err)),
            target.stb.eq(target.cyc),
            bus.ack.eq(bus.cyc & target.cyc & target.ack),
            bus.err.eq(bus.cyc & target.cyc & target.err),
            bus.dat_r.eq(target.dat_r),
        ]
        m.d.sync += [
            target.cyc.eq(bus.cyc & bus.stb & ~ended & (left == 0)),
            left.eq(Mux(ended, self._pause, Mux(left == 0, 0, left - 1))),
        ]
        for name in ("adr", "dat_w", "sel", "we", "cti", "bte"):
            m.d.sync += getattr(target, name).eq(getattr(bus, name))
        return m


class Arbiter(wiring.Component):
    """Lets several initiators share a bus, access by access, in turn.

    The bus changes hands after an access or a burst, or when its holder asks for nothing; a change
    takes effect in the next cycle. An initiator that is not served keeps waiting.

    Members
    -------
    bus : ``Out(initiator())``
        The shared bus.
    """

    def __init__(self):
        self._initiators = []
        super().__init__({"bus": Out(initiator())})

    def add(self, bus):
        """Connect an initiator's bus (its ``cyc`` is an input of the arbiter)."""
        self._initiators.append(bus)

    def elaborate(self, platform):
        m = Module()
        count = len(self._initiators)
        holder = Signal(range(max(2, count)))
        inside_burst, finished, release = Signal(), Signal(), Signal()
        burst = self.bus.cti == CycleType.INCR_BURST
        m.d.comb += [
            finished.eq((self.bus.ack | self.bus.err) & ~burst),
            release.eq(finished | ~self.bus.cyc | ~self.bus.stb & ~inside_burst),
        ]
        with m.If(~self.bus.cyc | finished):
            m.d.sync += inside_burst.eq(0)
        with m.Elif(self.bus.ack):
            m.d.sync += inside_burst.eq(1)
        with m.Switch(holder):
            for index, initiator_bus in enumerate(self._initiators):
                with m.Case(index):
                    m.d.comb += [
                        getattr(self.bus, name).eq(getattr(initiator_bus, name))
                        for name in ("adr", "dat_w", "sel", "cyc", "stb", "we", "cti", "bte")
                    ]
                    m.d.comb += [
                        initiator_bus.ack.eq(self.bus.ack),
                        initiator_bus.err.eq(self.bus.err),
                    ]
                    # The nearest one behind the holder that asks; assigned last, it wins.
                    for step in reversed(range(1, count)):
                        other = (index + step) % count
                        with m.If(release & self._initiators[other].cyc):
                            m.d.sync += holder.eq(other)
        for initiator_bus in self._initiators:
            m.d.comb += initiator_bus.dat_r.eq(self.bus.dat_r)
        return m


class Decoder(wiring.Component):
    """Gives each access to the target whose window holds the address.

    Combinational in both directions. An access outside every window ends with ``err`` one cycle
    later. A window that is larger than its target repeats the target (the upper address bits are
    not looked at).

    Members
    -------
    bus : ``In(initiator())``
        Where the accesses come from.
    """

    def __init__(self):
        self._windows = []
        super().__init__({"bus": In(initiator())})

    def add(self, bus, *, base, size, name):
        """Map ``bus`` at ``size`` bytes from ``base``.

        Parameters
        ----------
        bus : wishbone.Interface
            The target, seen from the decoder (its ``cyc`` is an output of the decoder).
        base, size : int
            Byte address and length; ``size`` is a power of two and ``base`` a multiple of it.
        name : str
            For messages.

        Raises
        ------
        ValueError
            If the window is not aligned, does not fit 32 bits or overlaps another.
        """
        if size < 8 or size & (size - 1) or base % size or base + size > 1 << 32:
            raise ValueError(
                f"window {name!r} at {base:#x} with {size:#x} bytes cannot be decoded: make the "
                "size a power of two and the base a multiple of it below 4 GiB"
            )
        for other, other_base, other_size, _ in self._windows:
            if base < other_base + other_size and other_base < base + size:
                raise ValueError(
                    f"window {name!r} at {base:#x} with {size:#x} bytes overlaps {other!r} at "
                    f"{other_base:#x}; move one of them"
                )
        self._windows.append((name, base, size, bus))

    def elaborate(self, platform):
        m = Module()
        unmapped = Signal()
        refuse = Signal()
        m.d.sync += refuse.eq(unmapped & self.bus.cyc & self.bus.stb & ~refuse)
        for _, _, _, bus in self._windows:
            m.d.comb += [
                bus.adr.eq(self.bus.adr),
                bus.dat_w.eq(self.bus.dat_w),
                bus.sel.eq(self.bus.sel),
                bus.we.eq(self.bus.we),
                bus.cti.eq(self.bus.cti),
                bus.bte.eq(self.bus.bte),
            ]
        with m.Switch(self.bus.adr):
            for _, base, size, bus in self._windows:
                low_bits = size.bit_length() - 3
                high = format(base >> (low_bits + 2), "b").zfill(30 - low_bits)
                with m.Case((high if low_bits < 30 else "") + "-" * low_bits):
                    m.d.comb += [
                        bus.cyc.eq(self.bus.cyc),
                        bus.stb.eq(self.bus.stb),
                        self.bus.dat_r.eq(bus.dat_r),
                        self.bus.ack.eq(bus.ack),
                        self.bus.err.eq(bus.err),
                    ]
            with m.Default():
                m.d.comb += [unmapped.eq(1), self.bus.err.eq(refuse)]
        return m
