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

    One burst per cycle, the first one cycle after the range was taken; the next range is taken
    with the last burst of the one before.

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
            }
        )

    def elaborate(self, platform):
        m = Module()
        low_bits = self._beats.bit_length() - 1
        active = Signal()
        first, last = Signal.like(self.i.payload.first), Signal.like(self.i.payload.last)
        final = self.o.payload.final
        m.d.comb += [
            final.eq(first[low_bits:] == last[low_bits:]),
            self.o.valid.eq(active),
            self.o.payload.address.eq(first << self._beat_shift),
            self.o.payload.length.eq(
                Mux(final, last[:low_bits], self._beats - 1) - first[:low_bits]
            ),
            self.i.ready.eq(~active | (self.o.ready & final)),
        ]
        with m.If(active & self.o.ready):
            m.d.sync += [
                first[:low_bits].eq(0),
                first[low_bits:].eq(first[low_bits:] + 1),
                active.eq(~final),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                first.eq(self.i.payload.first),
                last.eq(self.i.payload.last),
                active.eq(1),
            ]
        with m.If(self.clear):
            m.d.sync += active.eq(0)
        return m
