"""The accelerator: all blocks, wired."""

import functools
import operator

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tamale.gateware import axi, registers
from tamale.gateware.array import ActivationMemory, TernaryArray
from tamale.gateware.candidates import Candidates
from tamale.gateware.counters import Counter, Counters
from tamale.gateware.dma import StreamChecksum, StreamReader
from tamale.gateware.interfaces import (
    ADDRESS_BITS,
    SCRATCH_LATENCY,
    Addresses,
    Fault,
    FaultLayout,
)
from tamale.gateware.jobs import JobQueue
from tamale.gateware.kvwriter import KVWriter
from tamale.gateware.loader import Loader
from tamale.gateware.program import ProgramMemory
from tamale.gateware.scalar import ScalarUnit
from tamale.gateware.scratchpad import Scratchpad
from tamale.gateware.sequencer import Activity, Executor, StreamWalker
from tamale.gateware.vector import VectorUnit
from tamale.soc.registers import RegisterFile
from tamale.soc.wishbone import Slice

__all__ = ["Accelerator"]


def _any(values):
    return functools.reduce(operator.or_, values)


class Accelerator(wiring.Component):
    """Performs jobs: a program, run once for every token of the active slots.

    Everything that firmware does goes through the registers (`block`). A fault stops walker and
    executor where they are; transfers under way finish, no bus hangs, and ``control.reset`` brings
    every block back to idle once they have. Memories (program, scratchpad, activations, scalars)
    keep
    their contents over a reset.

    Parameters
    ----------
    config : Config

    Members
    -------
    bus : ``In(block.bus_signature())``
        Registers.
    axi : ``Out(axi.Signature(data_width=bus_width))``
        Memory: reads by the stream reader, writes by the writer of the cache.
    irq : Out(1)
        High while an enabled event is pending.
    logit_valid, logit_vector, logit_row, logit_value : Out(1), Out(4), Out(20), Out(signed(32))
        What enters the candidate lists, padding included, for simulations to compare.
    events : Out(len(Counter))
        What the performance counters count, for simulations to record.

    Attributes
    ----------
    block : Block
        The registers.
    """

    def __init__(self, config):
        self._config = config
        self.block = registers.block(config)
        super().__init__(
            {
                "bus": In(self.block.bus_signature()),
                "axi": Out(axi.Signature(addr_width=ADDRESS_BITS, data_width=config.bus_width)),
                "irq": Out(1),
                "logit_valid": Out(1),
                "logit_vector": Out(4),
                "logit_row": Out(20),
                "logit_value": Out(signed(32)),
                "events": Out(len(Counter)),
            }
        )

    @property
    def config(self):
        """The configuration."""
        return self._config

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.registers = regs = RegisterFile(self.block)
        m.submodules.slice = entrance = Slice(self.block.bus_signature(), pause=SCRATCH_LATENCY + 1)
        wiring.connect(m, wiring.flipped(self.bus), entrance.bus)
        wiring.connect(m, entrance.target, regs.bus)

        # Blocks with state of a job are reset one after another, each from a register of its own:
        # none is on the other side of the chip. Those on the bus drain by themselves.
        begin_reset = Signal()
        resets = [begin_reset]

        def resettable(name, block):
            reset = Signal(name=f"reset_{name}")
            m.d.sync += reset.eq(resets[-1])
            resets.append(reset)
            m.submodules[name] = ResetInserter(reset)(block)
            return block

        array = resettable("array", TernaryArray(config))
        vector = resettable("vector", VectorUnit(config))
        scalar = resettable("scalar", ScalarUnit(config))
        candidates = resettable("candidates", Candidates(config))
        loader = resettable("loader", Loader(config))
        checksum = resettable("checksum", StreamChecksum(config))
        queue = resettable("queue", JobQueue(config, depth=registers.QUEUE_DEPTH))
        walker = resettable("walker", StreamWalker(config))
        executor = resettable("executor", Executor(config))
        reset = resets[-1]
        m.submodules.program = program = ProgramMemory(config)
        m.submodules.scratchpad = scratchpad = Scratchpad(config)
        m.submodules.activation = activation = ActivationMemory(config)
        m.submodules.reader = reader = StreamReader(config)
        m.submodules.kv_writer = writer = KVWriter(config)
        m.submodules.counters = counters = Counters()

        addresses = Signal(Addresses)
        for name in registers.address_names():
            m.d.comb += addresses[name].eq(getattr(regs, name).value)
        m.d.comb += [
            walker.addresses.eq(addresses),
            reader.addresses.eq(addresses),
            writer.addresses.eq(addresses),
        ]

        self._connect_memory(m, reader, writer)
        for i, agent in enumerate((walker, executor)):
            wiring.connect(m, agent.memory, program.read[i])
            wiring.connect(m, agent.job, queue.takers[i])
        for port, unit in (
            (executor.loader, loader),
            (executor.array, array),
            (executor.vector, vector),
            (executor.scalar, scalar),
            (executor.kv_writer, writer),
        ):
            wiring.connect(m, port, unit.unit)
        wiring.connect(m, executor.normalise, scalar.normalise)
        wiring.connect(m, array.activation, activation.read)
        wiring.connect(m, vector.activation, activation.write)
        m.d.comb += [
            walker.completed.eq(writer.completed),
            executor.slot_stride.eq(regs.slot_stride.value),
        ]
        # Seen a cycle late: both fall long before the command that makes them is over.
        m.d.sync += executor.settled.eq(candidates.idle & writer.idle)

        stop = self._faults(m, regs, begin_reset, reset, queue, walker, executor, reader, writer)
        summing, pop = self._stream(
            m, regs, reset, stop, walker, executor, reader, loader, array, checksum
        )
        # A cycle late: they come no further than a command that nobody takes, or that is forgotten.
        halt = Signal()
        m.d.sync += halt.eq(stop | summing)
        m.d.comb += [walker.halt.eq(halt), executor.halt.eq(halt)]
        self._program(m, regs, program)
        self._jobs(m, regs, queue, walker, executor)
        self._scalars(m, regs, executor, loader, scalar)
        self._scratchpad(m, regs, scratchpad, executor, loader, array, vector, writer)
        self._candidates(m, regs, executor, array, candidates)
        self._counters(m, regs, counters, pop, walker, executor, reader, array, vector)
        m.d.comb += regs.peak.value.eq(vector.peak)
        return m

    def _connect_memory(self, m, reader, writer):
        """Reads come from the one, writes from the other, so the channels need no arbiter."""
        for name, member in self.axi.signature.members.items():
            owner = reader if name[:2] in ("ar", "ri", "rd", "rr", "rl", "rv") else writer
            port = getattr(owner.memory, name)
            if member.flow == Out:
                m.d.comb += getattr(self.axi, name).eq(port)
            else:
                m.d.comb += port.eq(getattr(self.axi, name))

    def _faults(self, m, regs, begin_reset, reset, queue, walker, executor, reader, writer):
        """Keep the first fault, sequence a reset; return the condition under which agents stand."""
        fault = Signal(FaultLayout)
        found = Signal(FaultLayout)
        sources = [
            (reader.fault_valid, reader.fault),
            (writer.fault_valid, writer.fault),
            (queue.fault.code != Fault.NONE, queue.fault),
            (executor.fault.code != Fault.NONE, executor.fault),
            (walker.fault.code != Fault.NONE, walker.fault),
        ]
        faulted, raised = Signal(), Signal()
        resetting, clear = Signal(), Signal()
        m.d.sync += raised.eq(0)
        for valid, source in reversed(sources):
            with m.If(valid):
                m.d.sync += [found.eq(source), raised.eq(~resetting)]
        m.d.comb += [reader.clear.eq(clear), writer.clear.eq(clear)]
        with m.FSM(name="reset"):
            with m.State("RUN"):
                with m.If(regs.control.reset):
                    m.d.sync += clear.eq(1)
                    m.next = "STOP"
            with m.State("STOP"):
                # What `clear` sets off shows in `idle` of the next cycle.
                m.d.comb += resetting.eq(1)
                m.d.sync += clear.eq(0)
                m.next = "DRAIN"
            with m.State("DRAIN"):
                # Agents stand and the reader drops what is in flight; the writer ends its burst.
                m.d.comb += resetting.eq(1)
                with m.If(reader.idle & writer.idle):
                    m.d.sync += begin_reset.eq(1)
                    m.next = "CLEAR"
            with m.State("CLEAR"):
                m.d.comb += resetting.eq(1)
                m.d.sync += begin_reset.eq(0)
                with m.If(reset):
                    m.next = "RUN"

        # Faulted or resetting, from a register of its own: it goes everywhere.
        stop = Signal()
        with m.If(reset):
            m.d.sync += [fault.eq(0), faulted.eq(0), stop.eq(0)]
        with m.Elif(raised & ~faulted & ~resetting):
            m.d.sync += [fault.eq(found), faulted.eq(1), stop.eq(1)]
        with m.Elif(regs.control.reset):
            m.d.sync += stop.eq(1)
        m.d.comb += [
            regs.status.resetting.eq(resetting | regs.control.reset),
            regs.status.faulted.eq(faulted),
            regs.fault.code.eq(fault.code),
            regs.fault_info.value.eq(fault.info),
            regs.interrupt_pending.fault_set.eq(raised & ~faulted & ~resetting),
            self.irq.eq(
                (
                    Cat(getattr(regs.interrupt_pending, n) for n in ("job", "fault", "checksum"))
                    & Cat(getattr(regs.interrupt_enable, n) for n in ("job", "fault", "checksum"))
                ).any()
            ),
        ]
        # A cycle after the fault: the agent that raised it stands by itself.
        return stop

    def _stream(self, m, regs, reset, stop, walker, executor, reader, loader, array, checksum):
        """Route descriptors and beats; return (a checksum is under way, a beat is consumed)."""
        summing, asked, start = Signal(), Signal(), Signal()
        idle = walker.idle & executor.idle & ~regs.status.busy & ~regs.status.faulted
        m.d.comb += [
            start.eq(regs.control.checksum & ~summing & idle),
            checksum.start.eq(start),
            checksum.beats.eq(regs.checksum_beats.value),
            regs.checksum.value.eq(checksum.crc),
            regs.status.checksum_busy.eq(summing),
        ]
        finished = summing & ~asked & checksum.done
        with m.If(start):
            m.d.sync += [summing.eq(1), asked.eq(1)]
        with m.Elif(finished | regs.status.faulted | reset):
            m.d.sync += [summing.eq(0), asked.eq(0)]
        with m.Elif(asked & reader.descriptors.ready):
            m.d.sync += asked.eq(0)
        m.d.comb += regs.interrupt_pending.checksum_set.eq(finished)

        with m.If(asked):
            m.d.comb += [
                reader.descriptors.valid.eq(1),
                reader.descriptors.payload.address.eq(regs.checksum_address.value),
                reader.descriptors.payload.beats.eq(regs.checksum_beats.value),
            ]
        with m.Else():
            m.d.comb += [
                # What is offered while agents stand must not be read: a reset would miss it.
                reader.descriptors.valid.eq(walker.o.valid & ~stop),
                reader.descriptors.payload.eq(walker.o.payload),
                walker.o.ready.eq(reader.descriptors.ready & ~stop),
            ]

        # A unit takes beats only while it executes, so beats need no more routing than this, a
        # cycle late.
        for sink, takes in (
            (loader, ~summing & (executor.unit == Activity.LOADER)),
            (array, ~summing & (executor.unit == Activity.ARRAY)),
            (checksum, summing),
        ):
            chosen = Signal()
            m.d.sync += chosen.eq(takes)
            m.d.comb += [
                sink.i.payload.eq(reader.o.payload),
                sink.i.valid.eq(reader.o.valid & chosen),
            ]
            with m.If(chosen):
                m.d.comb += reader.o.ready.eq(sink.i.ready)
        return summing, reader.o.valid & reader.o.ready & ~summing

    def _program(self, m, regs, program):
        index = Signal(14)
        m.d.comb += [
            program.write.en.eq(regs.program_word.write_strobe),
            program.write.word.eq(index),
            program.write.data.eq(regs.program_word.value),
        ]
        with m.If(regs.program_index.write_strobe):
            m.d.sync += index.eq(regs.program_index.value)
        with m.Elif(regs.program_word.write_strobe):
            m.d.sync += index.eq(index + 1)

    def _jobs(self, m, regs, queue, walker, executor):
        staging = (regs.job_token, regs.job_position, regs.job_kv_base)
        for bit, array in enumerate(staging):
            for slot in range(self._config.vectors):
                with m.If(array[slot].write_strobe):
                    m.d.comb += [
                        queue.stage_en.eq(1 << bit),
                        queue.stage_slot.eq(slot),
                        queue.stage_data.eq(array[slot].value),
                    ]
        m.d.comb += [
            queue.submit.eq(regs.submit.write_strobe),
            queue.slots.eq(regs.submit.slots),
            queue.want_head.eq(regs.submit.want_head),
            regs.status.busy.eq((queue.level != 0) | queue.busy | ~walker.idle | ~executor.idle),
            regs.status.submit_busy.eq(queue.busy),
            regs.status.queue_full.eq(queue.full),
            regs.status.queue_level.eq(queue.level),
            regs.interrupt_pending.job_set.eq(executor.complete),
        ]
        with m.If(executor.complete):
            m.d.sync += regs.jobs_done.value.eq(regs.jobs_done.value + 1)

    def _scalars(self, m, regs, executor, loader, scalar):
        """The executor reads while a job runs, the processor between jobs."""
        for name, selected in (
            ("p_name", regs.scalar_select.name),
            ("q_name", 0),
            ("slot", regs.scalar_select.slot),
        ):
            wanted = getattr(executor.read, name)
            m.d.comb += getattr(scalar.read, name).eq(Mux(executor.idle, selected, wanted))
        m.d.comb += [
            executor.read.p.eq(scalar.read.p),
            executor.read.q.eq(scalar.read.q),
        ]
        # What block RAM returns goes no further than a register. An access that follows the one
        # that selects comes three cycles later.
        m.d.sync += [
            regs.scalar.mantissa.eq(scalar.read.p.mantissa),
            regs.scalar.exponent.eq(scalar.read.p.exponent),
        ]
        wiring.connect(m, loader.scalar_write, scalar.write)

    def _scratchpad(self, m, regs, scratchpad, executor, loader, array, vector, writer):
        """OR the ports of the units together; add the processor's reads between jobs."""
        width = self._config.vu_width
        lane_bits = width.bit_length() - 1
        # The access after the one that sets the index, or reads, comes late enough for the word
        # to be there: the slice pauses. A write's strobe is a cycle later than a read's.
        index = Signal(17)
        was_read, moved = Signal(), Signal()
        coming = Signal(SCRATCH_LATENCY + 1)
        with m.If(regs.scratch_index.write_strobe):
            m.d.sync += index.eq(regs.scratch_index.value)
        with m.Elif(was_read):
            m.d.sync += index.eq(index + 1)
        m.d.sync += [
            was_read.eq(regs.scratch_value.read_strobe),
            moved.eq(regs.scratch_index.write_strobe | was_read),
            coming.eq(Cat(moved, coming)),
        ]
        # Block RAM is slow, so the word is kept before the element is taken from it.
        word = Signal(32 * width)
        with m.If(coming[-2]):
            m.d.sync += word.eq(scratchpad.a.data.as_value())
        with m.If(coming[-1]):
            lane = word.word_select(index[:lane_bits], 32) if lane_bits else word
            m.d.sync += regs.scratch_value.value.eq(lane)
        reads_a = [vector.a, array.scratch_read, writer.a]
        reads_b = [vector.b, writer.b]
        for port, users in ((scratchpad.a, reads_a), (scratchpad.b, reads_b)):
            m.d.comb += [
                port.en.eq(_any(user.en for user in users)),
                port.addr.eq(_any(user.addr for user in users)),
            ]
            m.d.comb += [user.data.eq(port.data) for user in users]
        idle = Signal()
        m.d.sync += idle.eq(executor.idle)
        with m.If(moved & idle):
            m.d.comb += [scratchpad.a.en.eq(1), scratchpad.a.addr.eq(index >> lane_bits)]
        writes = [loader.write, array.scratch_write, vector.write]
        m.d.comb += [
            scratchpad.write.en.eq(_any(user.en for user in writes)),
            scratchpad.write.addr.eq(_any(user.addr for user in writes)),
            scratchpad.write.data.as_value().eq(_any(user.data.as_value() for user in writes)),
        ]

    def _candidates(self, m, regs, executor, array, candidates):
        began = Signal()
        m.d.sync += [
            began.eq(executor.head),
            regs.candidate_count.value.eq(candidates.count),
            regs.candidate_value.value.eq(candidates.value),
            regs.candidate_row.value.eq(candidates.row),
        ]
        wiring.connect(m, array.candidates, candidates.i)
        m.d.comb += [
            candidates.rows.eq(regs.vocabulary.value),
            candidates.clear.eq(executor.head & ~began),
            candidates.vector.eq(regs.candidate_select.vector),
            candidates.index.eq(regs.candidate_select.index),
            self.logit_valid.eq(array.candidates.valid & array.candidates.ready),
            self.logit_vector.eq(array.candidates.payload.vector),
            self.logit_row.eq(array.candidates.payload.row),
            self.logit_value.eq(array.candidates.payload.value),
        ]

    def _counters(self, m, regs, counters, pop, walker, executor, reader, array, vector):
        # Everything two cycles late: what happens in a cycle is known at its end, far from here.
        def late(value):
            signal = Signal.like(value)
            m.d.sync += signal.eq(value)
            return signal

        running, head, pop = late(~executor.idle), late(executor.head), late(pop)
        now, complete = late(executor.activity), late(executor.complete)
        activity = {
            Counter.LOADER_CYCLES: Activity.LOADER,
            Counter.ARRAY_CYCLES: Activity.ARRAY,
            Counter.VECTOR_CYCLES: Activity.VECTOR,
            Counter.SCALAR_CYCLES: Activity.SCALAR,
            Counter.KV_WRITER_CYCLES: Activity.KV_WRITER,
            Counter.SEQUENCER_CYCLES: Activity.SEQUENCER,
        }
        events = {
            Counter.CYCLES: running,
            Counter.LAYERS_CYCLES: running & ~head,
            Counter.LAYERS_BEATS: pop & ~head,
            Counter.HEAD_CYCLES: running & head,
            Counter.HEAD_BEATS: pop & head,
            Counter.ARRAY_STARVED: late(array.stall_input),
            Counter.ARRAY_DRAINING: late(array.stall_drain),
            Counter.FENCE_WAIT: late(walker.fenced),
            Counter.FIFO_FULL: late(reader.fifo_full),
            Counter.MEMORY_WAIT: late(reader.waiting),
            Counter.WALKER_IDLE: running & late(reader.idle),
            Counter.SATURATIONS: late(vector.saturated | array.saturated),
            Counter.QUEUE_EMPTY: ~running,
            Counter.JOBS: complete,
        }
        events |= {counter: now == unit for counter, unit in activity.items()}
        for counter in Counter:
            m.d.sync += counters.events[counter.value].eq(events[counter])
        m.d.sync += counters.snapshot.eq(complete)
        m.d.comb += self.events.eq(counters.events)
        m.d.comb += [
            counters.clear.eq(regs.control.clear_counters),
            counters.select.eq(regs.counter_select.index),
            counters.live.eq(regs.counter_select.live),
            regs.counter.value.eq(counters.value),
        ]
