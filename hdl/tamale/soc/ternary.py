"""A small ternary engine for a core that does the rest: row sums, and a scaling multiplier."""

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from tamale.codes import CODES
from tamale.gateware.trits import TritDecoder

from . import wishbone
from .registers import Block, Field, Register

__all__ = ["BLOCK", "Scaler", "TernaryEngine"]

_ROW_BITS = 10
_COUNT_BITS = 14

#: A code's bits, and those of a number of activations' words.
_CODE, _ACT_BITS = 8, 11

BLOCK = Block(
    "engine",
    "Sums of rows of trits times activations, a scaling multiplier, and the pins of the flash.",
    [
        Register(
            "shape",
            "What the following rows look like; they are fed by software until a stream begins.",
            [
                Field("bytes", _ACT_BITS, "Bytes of a plane.", access="wo"),
                Field("planes", 3, "Trit planes.", access="wo"),
                Field(
                    "scaled",
                    1,
                    "Behind the first row and every other one comes a word with its scale and that "
                    "of the next row.",
                    access="wo",
                ),
                Field("row_words", _ROW_BITS, "Words of a row's trits.", access="wo"),
            ],
        ),
        Register("stream", "Rows come from the flash, from this byte on.", width=24, access="wo"),
        Register(
            "rows",
            "Rows to come.",
            [
                Field("act", _ACT_BITS, "First word of their activations.", access="wo"),
                Field("count", _COUNT_BITS, "Rows of the stream.", access="wo"),
            ],
        ),
        Register("feed", "Four bytes of a row.", access="wo"),
        Register("sum", "Sum of the next row; the access waits for it.", access="ro"),
        Register(
            "scales", "The next word of scales, after the first row's sum; waits too.", access="ro"
        ),
        Register("codes", "Word of activations from which codes are written.", access="wo"),
        Register("code", "The next code, a signed byte.", width=8, access="wo"),
        Register("shift", "Right shift of scaling.", width=6, access="wo"),
        Register("factor", "Factor of scaling, signed.", width=18, access="wo"),
        Register("value", "Number to be scaled, signed.", access="wo"),
        Register("scaled", "The result; the access waits for it.", access="ro"),
        Register("logit_row", "Row of the logit that is shown next.", access="wo"),
        Register("logit", "Shows a logit to a simulation.", access="wo"),
        Register(
            "pins",
            "The flash's pins by hand.",
            [
                Field("manual", 1, "Pins follow the bits below.", access="wo"),
                Field("cs", 1, "Chip select.", access="wo"),
                Field("sck", 1, "Serial clock.", access="wo"),
                Field("data", 1, "Data to the flash.", access="wo"),
            ],
        ),
    ],
)
_OFFSET = {register.name: register.offset // 4 for register in BLOCK.registers}


class Scaler(wiring.Component):
    """floor(value * factor / 2**shift + 1/2), saturated to 32 bits.

    The product comes in one cycle; its shift takes one cycle for each 16, 4 and 1.

    Members
    -------
    start : In(1)
    value : In(signed(32))
    factor : In(signed(18))
    shift : In(6)
        All three are looked at in the cycle of ``start`` and must stay for the next one.
    ready : Out(1)
        ``result`` is that of the last start; not before the second cycle after it.
    result : Out(signed(32))
    """

    def __init__(self):
        super().__init__(
            {
                "start": In(1),
                "value": In(signed(32)),
                "factor": In(signed(18)),
                "shift": In(6),
                "ready": Out(1),
                "result": Out(signed(32)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        product = Signal(signed(50))
        left, lost, loaded, working = Signal(6), Signal(), Signal(), Signal()
        with m.If(self.start):
            m.d.sync += [loaded.eq(1), working.eq(1), self.ready.eq(0)]
        with m.Elif(loaded):
            m.d.sync += [
                product.eq(self.value * self.factor), left.eq(self.shift), lost.eq(0), loaded.eq(0),
            ]  # fmt: skip
        with m.Elif(working):
            with m.If(left[4:] != 0):
                m.d.sync += [
                    product.eq(product >> 16),
                    lost.eq(product[15]),
                    left[4:].eq(left[4:] - 1),
                ]
            with m.Elif(left[2:4] != 0):
                m.d.sync += [
                    product.eq(product >> 4),
                    lost.eq(product[3]),
                    left[2:4].eq(left[2:4] - 1),
                ]
            with m.Elif(left[:2] != 0):
                m.d.sync += [
                    product.eq(product >> 1),
                    lost.eq(product[0]),
                    left[:2].eq(left[:2] - 1),
                ]
            with m.Else():
                m.d.sync += [working.eq(0), self.ready.eq(1)]
                rounded = product[:33].as_signed() + lost
                top = product[32:]
                inside = (top == 0) | (top == (1 << 18) - 1)
                outside = ~inside | (rounded[32] != rounded[31])
                m.d.sync += self.result.eq(
                    Mux(outside, Mux(product[-1], -(2**31), 2**31 - 1), rounded[:32])
                )
        return m


class TernaryEngine(wiring.Component):
    """Sums rows of trits times activations, a byte of trits every other cycle, and scales numbers.

    Rows have one row a tile: plane after plane, the most significant first. Bytes come from the
    flash, or from software through ``feed``. The sum of a row waits in a register while the next
    row is summed; where there are scales the next row waits too.

    Parameters
    ----------
    words : int
        Activations, in words of as many as a byte has trits.
    width : int
        Bits of an accumulator.

    Members
    -------
    bus : ``In(wishbone.target)``
        Registers of `BLOCK`. An access takes a cycle and whatever it waits for.
    start, address, want : Out(1), Out(24), Out(1)
    issued, byte, valid : In(1), In(8), In(1)
        The stream, see `QspiFlash`.
    pins : Out(4)
        ``manual``, ``cs``, ``sck``, ``data`` of the flash.
    logit_valid, logit_row, logit_value : Out(1), Out(20), Out(32)
        Logits as software shows them.
    """

    block = BLOCK

    def __init__(self, words, width):
        if not 1 <= words < 1 << _ACT_BITS:
            raise ValueError(
                f"activations take {words} words of the engine's {(1 << _ACT_BITS) - 1}; lower "
                "max_k or max_context"
            )
        self._words, self._width = words, width
        super().__init__(
            {
                "bus": In(wishbone.target(BLOCK.size)),
                "start": Out(1),
                "address": Out(24),
                "want": Out(1),
                "issued": In(1),
                "byte": In(8),
                "valid": In(1),
                "pins": Out(4),
                "logit_valid": Out(1),
                "logit_row": Out(20),
                "logit_value": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus, code = self.bus, CODES["t5"]
        lanes = code.trits_per_byte
        bits = ceil_log2(self._words + 1)
        write, read = Signal(), Signal()
        active = bus.cyc & bus.stb & ~bus.ack
        m.d.comb += [write.eq(active & bus.we), read.eq(active & ~bus.we)]
        data = bus.dat_w

        def writes(name):
            return write & (bus.adr == _OFFSET[name])

        def reads(name):
            return read & (bus.adr == _OFFSET[name])

        # What arrives: from the flash, or four bytes of software's.
        fed, fed_left, fed_phase = Signal(32), Signal(3), Signal()
        byte, arrives = Signal(8), Signal()
        m.d.comb += [
            byte.eq(Mux(self.valid, self.byte, fed[:8])),
            arrives.eq(self.valid | ((fed_left != 0) & fed_phase)),
        ]
        m.d.sync += fed_phase.eq(~fed_phase)
        with m.If((fed_left != 0) & fed_phase):
            m.d.sync += [fed.eq(fed >> 8), fed_left.eq(fed_left - 1)]

        # Shape, and the place in a row of the byte that arrives next.
        size, act, streams = Signal(bits), Signal(bits), Signal()
        planes, scaled, row_words = Signal(3), Signal(), Signal(_ROW_BITS)
        bytes_left, planes_left = Signal(bits), Signal(3)
        pointer = Signal(bits)
        scales_left, odd = Signal(3), Signal()
        last_byte, last_plane = Signal(), Signal()
        m.d.comb += [last_byte.eq(bytes_left == 1), last_plane.eq(planes_left == 1)]
        body = Signal()
        m.d.comb += body.eq(arrives & (scales_left == 0))
        scales, scales_ready = Signal(32), Signal()
        with m.If(body):
            m.d.sync += [pointer.eq(pointer + 1), bytes_left.eq(bytes_left - 1)]
            with m.If(last_byte):
                m.d.sync += [pointer.eq(act), bytes_left.eq(size), planes_left.eq(planes_left - 1)]
                with m.If(last_plane):
                    m.d.sync += [planes_left.eq(planes), odd.eq(~odd)]
                    m.d.sync += scales_left.eq(Mux(scaled & ~odd, 4, 0))
        with m.Elif(arrives):
            m.d.sync += scales_left.eq(scales_left - 1)
            m.d.sync += scales.eq(Cat(scales[8:], byte))
            m.d.sync += scales_ready.eq(scales_left == 1)

        # Activations, trits, and their sum in three steps.
        m.submodules.activations = store = memory.Memory(
            shape=_CODE * lanes, depth=self._words, init=[]
        )
        port, fill = store.read_port(), store.write_port(granularity=_CODE)
        address_bits = ceil_log2(self._words)
        m.d.comb += [port.addr.eq(pointer[:address_bits]), port.en.eq(body)]
        m.submodules.decoder = decoder = TritDecoder(code)
        m.d.comb += decoder.byte.eq(byte)
        nonzero, negative = Signal(lanes), Signal(lanes)
        steps = Signal(4)  # which of the steps below has a byte
        plane_ends, row_ends = Signal(4), Signal(4)
        m.d.sync += [
            nonzero.eq(decoder.nonzero), negative.eq(decoder.negative),
            steps.eq(Cat(body, steps)),
            plane_ends.eq(Cat(last_byte & ~last_plane, plane_ends)),
            row_ends.eq(Cat(last_byte & last_plane, row_ends)),
        ]  # fmt: skip
        terms = []
        for lane in range(lanes):
            value = port.data[_CODE * lane : _CODE * (lane + 1)]
            term = Signal(signed(_CODE), name=f"term{lane}")
            m.d.comb += term.eq(
                (value ^ negative[lane].replicate(_CODE)) & nonzero[lane].replicate(_CODE)
            )
            terms.append(term)

        def add(a, b, carry):
            """Sum of two numbers and a carry, as one adder."""
            return (Cat(1, a).as_signed() + Cat(carry, b).as_signed()) >> 1

        first, second = Signal(signed(9)), Signal(signed(9))
        third, carries = Signal(signed(9)), Signal(2)
        m.d.sync += [
            first.eq(add(terms[0], terms[1], negative[0])),
            second.eq(add(terms[2], terms[3], negative[2])),
            third.eq(terms[4] + negative[4]),
            carries.eq(Cat(negative[1], negative[3])),
        ]
        pairs, rest, carry = Signal(signed(10)), Signal(signed(9)), Signal()
        m.d.sync += [
            pairs.eq(add(first, second, carries[0])), rest.eq(third), carry.eq(carries[1]),
        ]  # fmt: skip
        part = Signal(signed(11))
        m.d.sync += part.eq(add(pairs, rest, carry))
        acc, triple, complete = Signal(signed(self._width)), Signal(), Signal()
        m.d.sync += triple.eq(steps[3] & plane_ends[3])
        with m.If(steps[3] | triple):
            m.d.sync += acc.eq(acc + Mux(triple, acc << 1, part))
        with m.If(steps[3] & row_ends[3]):
            m.d.sync += complete.eq(1)
        total, total_ready = Signal(signed(self._width)), Signal()
        with m.If(complete & ~total_ready):
            m.d.sync += [total.eq(acc), total_ready.eq(1), acc.eq(0), complete.eq(0)]

        # What the stream is asked for.
        rows_left, issue_left = Signal(_COUNT_BITS), Signal(_ROW_BITS + 2)
        issue_odd = Signal()
        waiting = Signal(2)  # rows asked for, whose sum was not read
        begins, ends = Signal(), Signal()
        m.d.comb += [
            self.want.eq(issue_left != 0),
            begins.eq(
                streams & (issue_left == 0) & (rows_left != 0)
                & (waiting < Mux(scaled, 1, 2))
            ),
            # With scales, those of a row are read before the row after the next one begins.
            ends.eq(streams & reads("sum") & total_ready),
        ]  # fmt: skip
        with m.If(self.issued):
            m.d.sync += issue_left.eq(issue_left - 1)
        with m.If(begins):
            m.d.sync += [
                issue_left.eq(Cat(Const(0, 2), row_words + (scaled & ~issue_odd))),
                issue_odd.eq(~issue_odd),
                rows_left.eq(rows_left - 1),
            ]
        m.d.sync += waiting.eq(waiting + begins - ends)

        # Codes from software: a lane each.
        lane, place = Signal(lanes, init=1), Signal(bits)
        m.d.comb += [
            fill.addr.eq(place[:address_bits]), fill.data.eq(data[:8].replicate(lanes)),
            fill.en.eq(lane & writes("code").replicate(lanes)),
        ]  # fmt: skip
        with m.If(writes("code")):
            m.d.sync += [lane.eq(lane.rotate_left(1)), place.eq(place + lane[-1])]

        m.submodules.scaler = scaler = Scaler()
        m.d.comb += scaler.start.eq(writes("value"))

        m.d.comb += [self.start.eq(writes("stream")), self.address.eq(data)]
        m.d.comb += [
            self.logit_valid.eq(writes("logit")), self.logit_value.eq(data),
        ]  # fmt: skip
        with m.If(write):
            with m.Switch(bus.adr):
                with m.Case(_OFFSET["shape"]):
                    fields = {
                        f.name: data[f.offset : f.offset + f.width]
                        for f in BLOCK.registers[0].fields
                    }
                    m.d.sync += [
                        size.eq(fields["bytes"]), planes.eq(fields["planes"]),
                        scaled.eq(fields["scaled"]), row_words.eq(fields["row_words"]), odd.eq(0),
                        issue_odd.eq(0),
                        bytes_left.eq(fields["bytes"]), planes_left.eq(fields["planes"]),
                        streams.eq(0), scales_left.eq(0), scales_ready.eq(0), total_ready.eq(0),
                        complete.eq(0), acc.eq(0), rows_left.eq(0), issue_left.eq(0),
                        waiting.eq(0), fed_left.eq(0),
                    ]  # fmt: skip
                with m.Case(_OFFSET["stream"]):
                    m.d.sync += streams.eq(1)
                with m.Case(_OFFSET["rows"]):
                    m.d.sync += [
                        act.eq(data[:_ACT_BITS]), pointer.eq(data[:_ACT_BITS]),
                        rows_left.eq(data[_ACT_BITS : _ACT_BITS + _COUNT_BITS]),
                    ]  # fmt: skip
                with m.Case(_OFFSET["feed"]):
                    with m.If(fed_left == 0):
                        m.d.sync += [fed.eq(data), fed_left.eq(4)]
                with m.Case(_OFFSET["codes"]):
                    m.d.sync += [lane.eq(1), place.eq(data)]
                with m.Case(_OFFSET["shift"]):
                    m.d.sync += scaler.shift.eq(data)
                with m.Case(_OFFSET["factor"]):
                    m.d.sync += scaler.factor.eq(data)
                with m.Case(_OFFSET["value"]):
                    m.d.sync += scaler.value.eq(data)
                with m.Case(_OFFSET["logit_row"]):
                    m.d.sync += self.logit_row.eq(data)
                with m.Case(_OFFSET["pins"]):
                    m.d.sync += self.pins.eq(data)
        with m.If(reads("sum") & total_ready):
            m.d.sync += total_ready.eq(0)
        with m.If(reads("scales") & scales_ready):
            m.d.sync += scales_ready.eq(0)

        waits = Signal()
        m.d.comb += waits.eq(
            (writes("feed") & (fed_left != 0))
            | (reads("sum") & ~total_ready)
            | (reads("scales") & ~scales_ready)
            | (reads("scaled") & ~scaler.ready)
        )
        m.d.sync += bus.ack.eq(active & ~waits)
        with m.Switch(bus.adr):
            with m.Case(_OFFSET["sum"]):
                m.d.sync += bus.dat_r.eq(total)
            with m.Case(_OFFSET["scales"]):
                m.d.sync += bus.dat_r.eq(scales)
            with m.Default():
                m.d.sync += bus.dat_r.eq(scaler.result)
        return m
