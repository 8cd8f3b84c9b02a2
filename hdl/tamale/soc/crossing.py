"""From one clock domain to another: Wishbone registers and AXI4.

Both sides' clocks may have any relation. Reset both domains together.
"""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.fifo import AsyncFIFO
from amaranth.lib.wiring import In, Out

__all__ = ["AxiCrossing", "WishboneCrossing"]


class WishboneCrossing(wiring.Component):
    """Carries one access at a time; payload and answer rest in registers while a toggle crosses.

    An access takes three to four cycles of either side more than without. An initiator may drop
    ``cyc`` at any time: the access is then finished on the other side and its answer forgotten.

    Parameters
    ----------
    signature : wishbone.Signature
        Of the target.
    domain : str
        Clock domain of the initiator; the target's is ``sync``.

    Members
    -------
    bus : In(signature)
        Initiator's side.
    target : Out(signature)
        Single accesses: ``cti`` stays zero.
    """

    def __init__(self, signature, domain):
        self._domain = domain
        super().__init__({"bus": In(signature), "target": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        bus, target, here = self.bus, self.target, self._domain
        asked, asked_there = Signal(), Signal()
        answered, answered_here = Signal(), Signal()
        m.submodules.ask = FFSynchronizer(asked, asked_there)
        m.submodules.answer = FFSynchronizer(answered, answered_here, o_domain=here)

        # The initiator's side. The target's registers are read when they have long been at rest.
        waiting, wanted = Signal(), Signal()
        failed, data = Signal(), Signal.like(target.dat_r)
        done = Signal()
        m.d.comb += [
            done.eq(waiting & (answered_here == asked)),
            bus.dat_r.eq(data),
            bus.ack.eq(done & wanted & bus.cyc & bus.stb & ~failed),
            bus.err.eq(done & wanted & bus.cyc & bus.stb & failed),
        ]
        with m.If(~waiting):
            m.d[here] += [
                target.adr.eq(bus.adr),
                target.dat_w.eq(bus.dat_w),
                target.sel.eq(bus.sel),
                target.we.eq(bus.we),
                wanted.eq(1),
            ]
            with m.If(bus.cyc & bus.stb):
                m.d[here] += [waiting.eq(1), asked.eq(~asked)]
        with m.Else():
            with m.If(~bus.cyc):
                m.d[here] += wanted.eq(0)
            with m.If(done):
                m.d[here] += waiting.eq(0)

        # The target's side.
        m.d.comb += target.stb.eq(target.cyc)
        with m.If(target.cyc):
            with m.If(target.ack | target.err):
                m.d.sync += [
                    target.cyc.eq(0),
                    failed.eq(target.err),
                    data.eq(target.dat_r),
                    answered.eq(asked_there),
                ]
        with m.Elif(asked_there != answered):
            m.d.sync += target.cyc.eq(1)
        return m


class AxiCrossing(wiring.Component):
    """A FIFO for each channel.

    Parameters
    ----------
    signature : axi.Signature
    domain : str
        Clock domain of the manager; the subordinate's is ``sync``.
    read_beats : int
        Beats that the read channel holds, a power of two. A manager with at most so many on their
        way never holds the channel that it shares with others, if it always takes what comes.

    Members
    -------
    manager : In(signature)
    subordinate : Out(signature)
    """

    #: Entries of the other channels.
    DEPTH = 4

    def __init__(self, signature, domain, read_beats=16):
        self._domain, self._read_beats = domain, read_beats
        super().__init__({"manager": In(signature), "subordinate": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        for channel, depth in (
            ("aw", self.DEPTH), ("w", self.DEPTH), ("b", self.DEPTH), ("ar", self.DEPTH),
            ("r", self._read_beats),
        ):  # fmt: skip
            back = channel in ("b", "r")
            source = self.subordinate if back else self.manager
            sink = self.manager if back else self.subordinate
            domains = ("sync", self._domain) if back else (self._domain, "sync")
            names = [
                name
                for name in self.manager.signature.members
                if name.startswith(channel) and name not in (channel + "valid", channel + "ready")
            ]
            payload = Cat(getattr(source, name) for name in names)
            fifo = AsyncFIFO(
                width=len(payload), depth=depth, w_domain=domains[0], r_domain=domains[1]
            )
            m.submodules[channel] = fifo
            m.d.comb += [
                fifo.w_data.eq(payload),
                fifo.w_en.eq(getattr(source, channel + "valid")),
                getattr(source, channel + "ready").eq(fifo.w_rdy),
                Cat(getattr(sink, name) for name in names).eq(fifo.r_data),
                getattr(sink, channel + "valid").eq(fifo.r_rdy),
                fifo.r_en.eq(getattr(sink, channel + "ready")),
            ]
        return m
