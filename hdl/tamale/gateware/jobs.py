"""Queue of jobs between firmware and the two agents that walk the program."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tamale.gateware.interfaces import ADDRESS_BITS, Fault, FaultLayout

__all__ = ["JobPort", "JobQueue", "JobSlotLayout", "QUEUE_FULL", "division"]

#: Info word of BAD_JOB where ``submit`` came while the queue was full or still copying.
QUEUE_FULL = 0xFF

#: What is known of one slot of a job; positions are taken apart once, here.
#:   blocks, digit   position // tile_k, position % tile_k
JobSlotLayout = data.StructLayout(
    {
        "token": unsigned(20),
        "position": unsigned(14),
        "kv_base": unsigned(ADDRESS_BITS),
        "blocks": unsigned(14),
        "digit": unsigned(8),
    }
)

#: How an agent sees the queue. ``slots`` and ``want_head`` describe the agent's oldest job and hold
#: while ``available``; ``entry`` is that of ``slot`` one cycle earlier; ``finish`` ends the job.
JobPort = wiring.Signature(
    {
        "available": In(1),
        "slots": In(5),
        "want_head": In(1),
        "slot": Out(4),
        "entry": In(JobSlotLayout),
        "finish": Out(1),
    }
)


def division(divisor, limit):
    """Return (factor, shift) such that ``n * factor >> shift == n // divisor`` for 0 <= n < limit.

    Every n is tried, when the design is built; the factor is the smallest that passes.

    Raises
    ------
    ValueError
        If no factor of up to 20 bits does it.
    """
    for shift in range(0, 40):
        factor = -(-(1 << shift) // divisor)
        if factor >= 1 << 20:
            break
        if all(n * factor >> shift == n // divisor for n in range(limit)):
            return factor, shift
    raise ValueError(
        f"no constant of 20 bits divides numbers below {limit} by {divisor}; lower max_context"
    )


class JobQueue(wiring.Component):
    """Holds jobs for walker and executor, which take them in order, each at its own time.

    Firmware writes token, position and cache address of each slot into staging memory, then
    ``submit``
    copies and validates them: 5 cycles a slot and 2. Staging keeps its values, so what does not
    change
    need not be written again; it must not be written while ``busy``.

    Parameters
    ----------
    config : Config
    depth : int
        Jobs held, those in execution included; a power of two from 2.

    Members
    -------
    stage_en : In(3)
        Write staging: bit 0 token, bit 1 position, bit 2 kv_base.
    stage_slot : In(4)
        Slot to write.
    stage_data : In(32)
        Value to write.
    submit, slots, want_head : In(1), In(5), In(1)
        Queue a job of ``slots`` slots.
    busy : Out(1)
        Staging is being copied.
    level : Out(range(depth + 1))
        Jobs that the executor has not finished.
    full : Out(1)
        No room; the walker, too, must have finished a job before its place is free.
    fault : Out(FaultLayout)
        ``code`` is BAD_JOB for one cycle; info: the slot whose position is out of range, the
        number of
        slots where that is out of range, or QUEUE_FULL.
    takers : array of 2 of ``In(JobPort)`` as the queue sees it
        Walker and executor.

    Raises
    ------
    ValueError
        If the depth is not such a number.
    """

    def __init__(self, config, *, depth=4):
        if not isinstance(depth, int) or depth < 2 or depth & (depth - 1):
            raise ValueError(f"a job queue holds a power of two of jobs from 2, not {depth!r}")
        self._config = config
        self._depth = depth
        super().__init__(
            {
                "stage_en": In(3),
                "stage_slot": In(4),
                "stage_data": In(32),
                "submit": In(1),
                "slots": In(5),
                "want_head": In(1),
                "busy": Out(1),
                "level": Out(range(depth + 1)),
                "full": Out(1),
                "fault": Out(FaultLayout),
                "takers": In(JobPort).array(2),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, depth = self._config, self._depth
        factor, shift = division(config.tile_k, config.max_context)
        index = depth.bit_length() - 1

        staged = []
        slot = Signal(range(max(config.vectors, 2)))
        for bit, name in enumerate(("token", "position", "kv_base")):
            memory = Memory(shape=unsigned(32), depth=config.vectors, init=[])
            m.submodules[f"staging_{name}"] = memory
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.en.eq(self.stage_en[bit] & (self.stage_slot < config.vectors)),
                write.addr.eq(self.stage_slot),
                write.data.eq(self.stage_data),
                read.addr.eq(slot),
                read.en.eq(1),
            ]
            staged.append(read.data)
        token, position, kv_base = staged

        # A job occupies 16 slots' places whatever its size, so that places need no arithmetic.
        stride = 1 << (config.vectors - 1).bit_length()
        m.submodules.entries = entries = Memory(shape=JobSlotLayout, depth=depth * stride, init=[])
        write = entries.write_port()
        pushed = Signal(index + 1)
        taken = [Signal(index + 1, name=f"taken_{taker}") for taker in range(2)]
        heads = Array(Signal(6, name=f"head_{i}") for i in range(depth))

        product = Signal(14 + 20)
        blocks, digit = Signal(14), Signal(8)
        m.d.sync += [
            product.eq(position[:14] * factor),
            blocks.eq(product >> shift),
            # From the cycle after `blocks`; the state WRITE comes after that.
            digit.eq(position[:14] - blocks * config.tile_k),
        ]
        head = Signal(6)
        m.d.comb += [
            write.addr.eq(pushed[:index] * stride + slot),
            write.data.token.eq(token),
            write.data.position.eq(position),
            write.data.kv_base.eq(kv_base),
            write.data.blocks.eq(blocks),
            write.data.digit.eq(digit),
            self.level.eq((pushed - taken[1])[: index + 1]),
        ]
        # Seen a cycle late: nothing is submitted in the cycle behind a copy.
        m.d.sync += self.full.eq(
            ((pushed - taken[0])[: index + 1] == depth)
            | ((pushed - taken[1])[: index + 1] == depth)
        )

        def refuse(info):
            m.d.comb += [self.fault.code.eq(Fault.BAD_JOB), self.fault.info.eq(info)]

        wait = Signal(2)
        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [slot.eq(0), wait.eq(0), head.eq(self.slots | self.want_head << 5)]
                with m.If(self.submit):
                    with m.If(self.full):
                        refuse(QUEUE_FULL)
                    with m.Elif((self.slots == 0) | (self.slots > config.vectors)):
                        refuse(self.slots)
                    with m.Else():
                        m.next = "DIVIDE"
            with m.State("DIVIDE"):
                # Staging read, product, quotient, remainder: one register each.
                m.d.comb += self.busy.eq(1)
                m.d.sync += wait.eq(wait + 1)
                with m.If(self.submit):
                    refuse(QUEUE_FULL)
                with m.If(wait == 3):
                    m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [self.busy.eq(1), write.en.eq(1)]
                m.d.sync += slot.eq(slot + 1)
                with m.If(self.submit):
                    refuse(QUEUE_FULL)
                with m.If(position >= config.max_context):
                    refuse(slot)
                    m.next = "IDLE"
                with m.Elif(slot + 1 == head[:5]):
                    m.d.sync += [pushed.eq(pushed + 1), heads[pushed[:index]].eq(head)]
                    m.next = "PUSHED"
                with m.Else():
                    m.next = "DIVIDE"
            with m.State("PUSHED"):
                m.d.comb += self.busy.eq(1)
                with m.If(self.submit):
                    refuse(QUEUE_FULL)
                m.next = "IDLE"

        for taker, count in zip(self.takers, taken, strict=True):
            read = entries.read_port()
            # A cycle late, so that takers see registers; after the end of a job, in time.
            m.d.sync += [
                taker.available.eq((count != pushed) & ~taker.finish),
                Cat(taker.slots, taker.want_head).eq(heads[count[:index]]),
            ]
            m.d.comb += [
                read.addr.eq(count[:index] * stride + Mux(taker.slot < stride, taker.slot, 0)),
                read.en.eq(1),
                taker.entry.eq(read.data),
            ]
            with m.If(taker.finish):
                m.d.sync += count.eq(count + 1)
        return m
