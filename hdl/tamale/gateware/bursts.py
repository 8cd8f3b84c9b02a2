"""From a range of beats to AXI bursts: the part that reading and writing have in common."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tamale.gateware import axi
from tamale.gateware.interfaces import ADDRESS_BITS

__all__ = ["BurstSplitter", "burst_beats", "inside"]


def burst_beats(config):
    """Return the beats of the longest burst of a bus: 256, or as many as fit between boundaries."""
    return min(axi.MAX_BURST_BEATS, axi.BOUNDARY // config.beat_bytes)


def inside(config, address, last, base, limit):
    """Return the condition that a range of beats lies in [base, limit) and does not wrap.

    Parameters
    ----------
    address : Value
        Byte address of the first beat.
    last : Value
        Index (byte address / beat bytes) of the last beat, wide enough for any sum.
    base, limit : Value
        Byte addresses.
    """
    beat_shift = config.beat_bytes.bit_length() - 1
    return (address >= base) & (last < limit[beat_shift:])


class BurstSplitter(wiring.Component):
    """Cuts ranges of beats at every multiple of ``beats``, into the fewest bursts.

    A range of any length takes no arithmetic wider than an increment: its last beat is known, so
    every burst ends either at the boundary or at the low bits of the last beat. ``beats`` divides
    the 4 KiB of AXI's boundary, hence no burst crosses one, and all bursts of a long range but the
    first and the last have full length.

    Bursts leave from registers, one per cycle, the first two cycles after the range was taken; the
    next range is taken while the last burst of the one before leaves.

    Parameters
    ----------
    config : Config
    beats : int
        Longest burst; a power of two up to ``burst_beats(config)``.

    Members
    -------
    i : ``In(stream.Signature(SpanLayout))``
        ``first`` and ``last``, indices of beats; first <= last.
    o : ``Out(stream.Signature(BurstLayout))``
        ``address`` in bytes, ``length`` in beats less one, ``final`` in the last burst of a range.
    clear : ``In(1)``
        Forgets what is left of the range.
    idle : ``Out(1)``
        Nothing is left of a range.

    Raises
    ------
    ValueError
        For a length that AXI does not allow.
    """

    def __init__(self, config, beats):
        if beats not in {1 << n for n in range(burst_beats(config).bit_length())}:
            raise ValueError(
                f"bursts on {config.bus_width} bits must have a power of two up to "
                f"{burst_beats(config)} beats, not {beats!r}"
            )
        self._beats = beats
        self._beat_shift = config.beat_bytes.bit_length() - 1
        index = unsigned(ADDRESS_BITS - self._beat_shift)
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"first": index, "last": index}))),
                "o": Out(
                    stream.Signature(
                        data.StructLayout(
                            {"address": unsigned(ADDRESS_BITS), "length": 8, "final": 1}
                        )
                    )
                ),
                "clear": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        low_bits = self._beats.bit_length() - 1
        first, last = Signal.like(self.i.payload.first), Signal.like(self.i.payload.last)
        # Bursts after this one, and whether there is none: counted down, because comparing the
        # addresses would take a carry chain and more in one cycle.
        active, final = Signal(), Signal()
        left = Signal(len(first) - low_bits)
        valid, free = Signal(), Signal()
        address, length, ends = Signal.like(first), Signal(8), Signal()
        spread = Signal(len(left) + 1)
        taken = self.i.payload
        m.d.comb += [
            spread.eq(taken.last[low_bits:] - taken.first[low_bits:]),
            free.eq(~valid | self.o.ready),
            self.i.ready.eq(~active | (free & final)),
            self.idle.eq(~active & ~valid),
            self.o.valid.eq(valid),
            self.o.payload.address.eq(address << self._beat_shift),
            self.o.payload.length.eq(length),
            self.o.payload.final.eq(ends),
        ]
        with m.If(free):
            m.d.sync += [
                valid.eq(active),
                address.eq(first),
                length.eq(Mux(final, last[:low_bits], self._beats - 1) - first[:low_bits]),
                ends.eq(final),
            ]
        with m.If(active & free):
            m.d.sync += [
                first[:low_bits].eq(0),
                first[low_bits:].eq(first[low_bits:] + 1),
                left.eq(left - 1),
                final.eq(left == 1),
                active.eq(~final),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                first.eq(taken.first),
                last.eq(taken.last),
                left.eq(spread),
                final.eq(taken.first[low_bits:] == taken.last[low_bits:]),
                active.eq(1),
            ]
        with m.If(self.clear):
            m.d.sync += [active.eq(0), valid.eq(0)]
        return m
