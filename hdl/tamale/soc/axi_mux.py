"""Several AXI4 managers on one memory port."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.hdl import Value
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from ..gateware import axi

__all__ = ["AxiMux"]

_ADDRESS = ("addr", "len", "size", "burst")


class AxiMux(wiring.Component):
    """Gives several managers one memory port.

    Addresses are granted in every cycle, reads apart from writes: to the managers of the highest
    priority that ask, in turn among equals. So that a busy accelerator cannot shut the CPU out for
    ever, a manager that has lost ``patience`` grants in a row to higher priorities takes the next.
    An address reaches the memory one cycle after it was offered; write data, read data and
    responses pass through combinationally. Write bursts keep the order of their addresses and are
    not interleaved; a manager's data wait until its address was granted.

    The memory sees identifiers extended above by the manager's index, by which responses find
    their way back. Order among transactions is the memory's; the mux adds none. Any number of
    reads, and ``write_bursts`` writes whose data are unfinished, can be under way.

    Parameters
    ----------
    managers : sequence of axi.Signature
        Address and data widths must agree; identifiers may differ.
    priorities : sequence of int or None
        One for each manager, the highest goes first; None makes all equal.
    write_bursts : int
        Write addresses granted ahead of their data.
    patience : int
        Lost grants after which a low priority is served.

    Members
    -------
    managers : list of ``In(signature)``
        One port for each manager.
    memory : ``Out(axi.Signature(...))``
        Identifiers have the widest manager's bits plus those of the index.

    Raises
    ------
    TypeError, ValueError
        If the managers do not fit together or a parameter is out of range.
    """

    def __init__(self, managers, *, priorities=None, write_bursts=8, patience=16):
        managers = list(managers)
        for signature in managers:
            if not isinstance(signature, axi.Signature):
                raise TypeError(f"an AXI manager needs an axi.Signature, not {signature!r}")
        if not managers:
            raise ValueError("an AXI mux needs at least one manager")
        widths = {(signature.addr_width, signature.data_width) for signature in managers}
        if len(widths) != 1:
            raise ValueError(f"AXI managers must agree in address and data width, not {managers!r}")
        priorities = [0] * len(managers) if priorities is None else list(priorities)
        if len(priorities) != len(managers):
            raise ValueError(
                f"{len(managers)} AXI managers need as many priorities, not {priorities!r}"
            )
        for name, value in (("write_bursts", write_bursts), ("patience", patience)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive int, not {value!r}")
        self._priorities = priorities
        self._write_bursts = write_bursts
        self._patience = patience
        self._id_width = max(signature.id_width for signature in managers)
        self._index_width = (len(managers) - 1).bit_length()
        self._signatures = managers
        ((addr_width, data_width),) = widths
        super().__init__(
            {
                **{f"manager_{index}": In(signature) for index, signature in enumerate(managers)},
                "memory": Out(
                    axi.Signature(
                        addr_width=addr_width,
                        data_width=data_width,
                        id_width=self._id_width + self._index_width,
                    )
                ),
            }
        )

    @property
    def managers(self):
        """The managers' ports, in order."""
        return [getattr(self, f"manager_{index}") for index in range(len(self._signatures))]

    def _arbitrate(self, m, requests, take):
        """Choose a request; ``take`` is high when the choice is used. Give it one-hot."""
        count = len(requests)
        granted = Signal(count)
        # Who may go first among equals: the managers behind the last one granted.
        behind = Signal(count)
        overdue = Signal(count)
        for index, priority in enumerate(self._priorities):
            if priority == max(self._priorities):
                continue
            lost, impatient = Signal(range(self._patience)), Signal()
            m.d.comb += overdue[index].eq(requests[index] & impatient)
            with m.If(take):
                with m.If(granted[index]):
                    m.d.sync += [lost.eq(0), impatient.eq(0)]
                with m.Elif(requests[index] & ~impatient):
                    m.d.sync += [lost.eq(lost + 1), impatient.eq(lost == self._patience - 1)]

        def first(mask):
            return mask & (~mask + 1)[:count]

        def in_turn(mask):
            mask = Value.cast(mask)
            ahead = mask & behind
            return Mux(ahead.any(), first(ahead), first(mask))

        choice = Const(0, count)
        for level in sorted(set(self._priorities)):
            members = Const(
                sum(1 << i for i, p in enumerate(self._priorities) if p == level), count
            )
            asking = Signal(count)
            m.d.comb += asking.eq(requests & members)
            choice = Mux(asking.any(), in_turn(asking), choice)
        m.d.comb += granted.eq(Mux(overdue.any(), in_turn(overdue), choice))
        with m.If(take & requests.any()):
            for index in range(count):
                with m.If(granted[index]):
                    m.d.sync += behind.eq(~((2 << index) - 1))
        return granted

    def _address(self, m, channel, may_grant):
        """Connect an address channel through a register; give the grant of this cycle, one-hot."""
        memory = self.memory
        get = lambda port, name: getattr(port, channel + name)  # noqa: E731
        requests = Signal(len(self.managers), name=channel + "_requests")
        take = Signal(name=channel + "_take")
        m.d.comb += [
            requests.eq(Cat(get(port, "valid") for port in self.managers)),
            take.eq((~get(memory, "valid") | get(memory, "ready")) & may_grant),
        ]
        granted = self._arbitrate(m, requests, take)
        with m.If(get(memory, "ready")):
            m.d.sync += get(memory, "valid").eq(0)
        for index, port in enumerate(self.managers):
            m.d.comb += get(port, "ready").eq(granted[index] & take)
            with m.If(granted[index] & take):
                m.d.sync += get(memory, "valid").eq(1)
                m.d.sync += [get(memory, name).eq(get(port, name)) for name in _ADDRESS]
                if self._id_width + self._index_width:
                    own = get(port, "id") if self._signatures[index].id_width else Const(0, 0)
                    own = Cat(own, Const(0, self._id_width - len(own)))
                    m.d.sync += get(memory, "id").eq(Cat(own, Const(index, self._index_width)))
        return granted & take.replicate(len(self.managers))

    def _index(self, identifier):
        return identifier[self._id_width :] if self._index_width else Const(0, 1)

    def elaborate(self, platform):
        m = Module()
        memory = self.memory
        self._address(m, "ar", Const(1, 1))

        m.submodules.write_order = order = SyncFIFOBuffered(
            width=max(1, self._index_width), depth=self._write_bursts
        )
        granted = self._address(m, "aw", order.w_rdy)
        m.d.comb += order.w_en.eq(granted.any())
        for index in range(len(self.managers)):
            with m.If(granted[index]):
                m.d.comb += order.w_data.eq(index)
        with m.Switch(order.r_data):
            for index, port in enumerate(self.managers):
                with m.Case(index):
                    m.d.comb += [
                        memory.wdata.eq(port.wdata),
                        memory.wstrb.eq(port.wstrb),
                        memory.wlast.eq(port.wlast),
                        memory.wvalid.eq(port.wvalid & order.r_rdy),
                        port.wready.eq(memory.wready & order.r_rdy),
                    ]
        m.d.comb += order.r_en.eq(memory.wvalid & memory.wready & memory.wlast)

        for channel, names in (("b", ("resp",)), ("r", ("data", "resp", "last"))):
            get = lambda port, name, channel=channel: getattr(port, channel + name)  # noqa: E731
            if self._id_width + self._index_width:
                identifier = get(memory, "id")
            else:
                identifier = Const(0, 1)
            for index, port in enumerate(self.managers):
                m.d.comb += [get(port, name).eq(get(memory, name)) for name in names]
                if self._signatures[index].id_width:
                    m.d.comb += get(port, "id").eq(identifier)
            with m.Switch(self._index(identifier)):
                for index, port in enumerate(self.managers):
                    with m.Case(index):
                        m.d.comb += [
                            get(port, "valid").eq(get(memory, "valid")),
                            get(memory, "ready").eq(get(port, "ready")),
                        ]
        return m
