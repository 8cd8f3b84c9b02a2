"""Golden machine: executes programs on NumPy state, command by command, as the RTL does.

Together with `integer` this is the integer specification of the device. State (scratchpad,
activation memory, scalars, memory with the key-value cache) is comparable with the RTL's after
every command.
"""

import dataclasses
import functools

import numpy as np
from tamale import isa
from tamale.codes import limit
from tamale.config import Config

from tamale_model import integer
from tamale_model.packing import encode_trits

__all__ = [
    "Addresses", "Job", "Machine", "Slot", "decode_sparse", "decode_tiles", "split_scales",
]  # fmt: skip

_CACHED_WEIGHTS = 128 << 20


@dataclasses.dataclass
class Addresses:
    """Base addresses and strides in bytes; the fields of ``gateware.interfaces.Addresses``."""

    sweep_base: int = 0
    embedding_base: int = 0
    embedding_stride: int = 0
    rope_base: int = 0
    rope_stride: int = 0
    kv_layer_stride: int = 0
    key_head_stride: int = 0
    value_base: int = 0
    value_head_stride: int = 0
    read_base: int = 0
    read_limit: int = 0
    kv_base: int = 0
    kv_limit: int = 0


@dataclasses.dataclass
class Slot:
    """One token of a job: its number, its position and the byte address of its sequence's cache."""

    token: int
    position: int
    kv_base: int


@dataclasses.dataclass
class Job:
    """One run of the program."""

    slots: list[Slot]
    want_head: bool = True


@functools.cache
def _decode_table(code):
    return np.array(code.decode, dtype=np.int8)


def decode_tiles(config, beats, tiles, groups, planes, steps):
    """Decode the trits of row tiles.

    Parameters
    ----------
    beats : uint8 array [tiles, groups, >= planes * steps, beat_bytes]
        What lies in memory; beats after the trits of a group (its scales) are ignored.

    Returns
    -------
    int8 array [tiles * tile_rows, groups, steps * tile_k]
        Values of ``planes`` balanced-ternary digits.
    """
    rows, columns = config.tile_rows, config.tile_columns
    body = beats[:, :, : planes * steps].reshape(tiles, groups, planes, steps, rows, columns)
    trits = _decode_table(config.trit_code)[body]  # tiles groups planes steps rows columns trits
    value = np.zeros(trits.shape[:2] + trits.shape[3:], dtype=np.int8)
    for plane in range(planes):
        value = value * 3 + trits[:, :, plane]
    value = value.transpose(0, 3, 1, 2, 4, 5)  # tiles rows groups steps columns trits
    return value.reshape(tiles * rows, groups, steps * config.tile_k)


def split_scales(config, data, groups, body, extra):
    """Take the beats of trits and the scales of groups in a row apart.

    Parameters
    ----------
    config : Config
    data : uint8 array
        What lies in memory.
    groups : int
    body : int
        Beats of a group's trits.
    extra : int
        0 without scales, 1 with them, 2 with auxiliary ones.

    Returns
    -------
    uint8 array [groups, body, beat_bytes]
    uint16 array [groups, extra, tile_rows]
    """
    beats = data.reshape(-1, config.beat_bytes)
    share, size = config.scale_share, 2 * config.tile_rows
    if extra != 1 or share == 1:
        beats = beats.reshape(groups, body + extra * config.scale_beats, config.beat_bytes)
        width = config.scale_beats * config.beat_bytes
        scales = beats[:, body:].reshape(groups, extra, width)[..., :size]
        return beats[:, :body], np.ascontiguousarray(scales).view("<u2")
    number = np.arange(groups)
    # Before group n lie the beats of scales of ceil(n / share) groups.
    first = number * body + -(-number // share)
    shared = beats[first[::share] + body].reshape(-1, size)[:groups]
    scales = np.ascontiguousarray(shared).view("<u2").reshape(groups, 1, config.tile_rows)
    return beats[first[:, None] + np.arange(body)], scales


def decode_sparse(config, beats, tiles, groups, steps):
    """Decode row tiles in the sparse code; see `decode_tiles`."""
    code, gearing = config.sparse, config.gearing
    body = np.ascontiguousarray(beats[:, :, : gearing.beats(steps)]).reshape(tiles, groups, -1)
    bits = np.unpackbits(body, axis=-1, bitorder="little")
    symbols = bits.reshape(tiles, groups, -1, gearing.symbol_bits)
    bits = symbols[:, :, np.array(gearing.sources(steps))].reshape(
        tiles, groups, steps, config.tile_rows, -1, code.bits
    )
    points = np.packbits(bits, axis=-1, bitorder="little")[..., 0]
    value = _decode_table(code)[points]  # tiles groups steps rows quads trits
    value = value.transpose(0, 3, 1, 2, 4, 5)
    return value.reshape(tiles * config.tile_rows, groups, steps * config.tile_k)


class Machine:
    """The accelerator's state and what commands do to it.

    Parameters
    ----------
    config : Config
    memory : uint8 array
        Byte-addressed memory; KVWRITE changes it.
    program : list of int
        128-bit commands.
    addresses : Addresses
    slot_stride : int
        Elements between the scratchpads of two slots.
    rows : int
        Rows of the head (vocabulary); rows of padding never become candidates.
    """

    def __init__(self, config: Config, memory, program, addresses, slot_stride, rows):
        self.config = config
        self.memory = memory
        self.program = [isa.decode(word) for word in program]
        self.addresses = addresses
        self.slot_stride = slot_stride
        self.rows = rows
        self.scratch = np.zeros(config.scratchpad_elements, dtype=np.int64)
        self.activation = np.zeros(
            (config.vectors, config.act_steps * config.tile_k), dtype=np.int64
        )
        self.shared = [integer.ZERO] * isa.SHARED_SCALARS
        self.private = [[integer.ZERO] * (64 - isa.SHARED_SCALARS) for _ in range(config.vectors)]
        self.peak = 0
        self.logits = None
        self._weights = {}
        self._cached = 0
        self._job = None
        self._slot = self._layer = self._sweep = 0

    # Running ----------------------------------------------------------------------------------

    def run(self, job, trace=None):
        """Run the program once.

        Parameters
        ----------
        job : Job
        trace : callable, optional
            Called as trace(pc, op, fields, layer, slot) after each command.

        Returns
        -------
        int64 array [slots, rows] or None
            Logits in the integer units of the head, None if the job does not want them.
        """
        if not 1 <= len(job.slots) <= self.config.vectors:
            raise ValueError(f"a job has 1 to {self.config.vectors} slots, not {len(job.slots)}")
        for slot in job.slots:
            if not 0 <= slot.position < self.config.max_context:
                raise ValueError(
                    f"position {slot.position} is outside the context of {self.config.max_context}"
                )
        self._job, self._sweep = job, self.addresses.sweep_base
        self.logits = None
        pc, start, index, last = 0, [0, 0], [0, 0], [0, 0]
        while True:
            op, fields = self.program[pc]
            self._layer, self._slot = index
            here = pc
            pc += 1
            if op is isa.Op.END:
                return self.logits
            if op is isa.Op.LOOP:
                level = fields["level"]
                start[level], index[level] = pc, 0
                last[level] = (len(job.slots) if level else fields["count"]) - 1
            elif op is isa.Op.NEXT:
                level = fields["level"]
                if index[level] < last[level]:
                    index[level] += 1
                    pc = start[level]
                else:
                    index[level] = 0
            elif op is isa.Op.SKIP_UNLESS_HEAD:
                if not job.want_head:
                    pc = fields["target"]
            else:
                getattr(self, "_" + op.name.lower())(**fields)
            if trace:
                trace(here, op, fields, index[0], index[1])

    def execute(self, word, job, layer=0, slot=0):
        """Perform one command (no LOOP, NEXT, SKIP or END) for a slot of a job, on its own."""
        self._job, self._layer, self._slot = job, layer, slot
        op, fields = isa.decode(word)
        getattr(self, "_" + op.name.lower())(**fields)

    def scalar(self, name, slot=None):
        """Return a scalar register; names of 32 and more belong to ``slot``."""
        if name < isa.SHARED_SCALARS:
            return self.shared[name]
        return self.private[self._slot if slot is None else slot][name - isa.SHARED_SCALARS]

    def set_scalar(self, name, value):
        """Set a scalar register (of the current slot)."""
        if name < isa.SHARED_SCALARS:
            self.shared[name] = value
        else:
            self.private[self._slot][name - isa.SHARED_SCALARS] = value

    # Streams ----------------------------------------------------------------------------------

    @property
    def _now(self):
        return self._job.slots[self._slot]

    def _address(self, source, head, length):
        """Byte address of a stream; LINEAR advances the sweep by ``length`` bytes."""
        a, slot = self.addresses, self._now
        if source == isa.Source.LINEAR:
            self._sweep += length
            return self._sweep - length
        if source == isa.Source.EMBEDDING:
            return a.embedding_base + slot.token * a.embedding_stride
        if source == isa.Source.ROPE:
            return a.rope_base + slot.position * a.rope_stride
        base = slot.kv_base + self._layer * a.kv_layer_stride
        if source == isa.Source.KEYS:
            return base + head * a.key_head_stride
        base += a.value_base + head * a.value_head_stride
        if source == isa.Source.VALUE_BLOCK:
            base += slot.position // self.config.tile_k * length
        return base

    def _read(self, address, length):
        if address < 0 or address + length > len(self.memory):
            raise ValueError(
                f"read of {length} bytes at {address:#x} leaves the memory of {len(self.memory)}"
            )
        return self.memory[address : address + length]

    def _base(self, element, per_slot):
        return element + (self._slot * self.slot_stride if per_slot else 0)

    def _bound(self, n, bound):
        return self._now.position + 1 if bound == isa.Bound.POSITION else n

    # Commands ---------------------------------------------------------------------------------

    def _load(self, dst, dst_slot, beats, format, source, offset, head, fence):
        length = beats * self.config.beat_bytes
        address = self._address(source, head, length) + offset * self.config.beat_bytes
        kind = {isa.Format.INT8: "<i1", isa.Format.INT16: "<i2", isa.Format.INT32: "<i4"}[format]
        values = self._read(address, length).view(kind)
        dst = self._base(dst, dst_slot)
        self.scratch[dst : dst + len(values)] = values

    def _sload(self, rd, count, source, offset, head, fence):
        width = self.config.beat_bytes
        length = -(-4 * count // width) * width
        address = self._address(source, head, length) + offset * width
        for i, word in enumerate(self._read(address, length).view("<u4")[:count]):
            self.set_scalar(rd + i, integer.Scalar.from_word(int(word)))

    def _weights_at(self, address, length, tiles, groups, planes, steps, extra, sparse, immutable):
        """Return float matrix [groups, tile_k * steps, rows], scales [rows, groups, extra]."""
        key = (address, tiles, groups, planes, steps, extra, sparse)
        if immutable and key in self._weights:
            return self._weights[key]
        config = self.config
        body = self._trit_beats(planes, steps, sparse)
        beats, tail = split_scales(config, self._read(address, length), tiles * groups, body, extra)
        beats = beats.reshape(tiles, groups, body, config.beat_bytes)
        if sparse:
            values = decode_sparse(config, beats, tiles, groups, steps)
        else:
            values = decode_tiles(config, beats, tiles, groups, planes, steps)
        # Products are summed by BLAS; a float format that holds every partial sum makes that exact.
        exact = steps * config.tile_k * 128 * limit(planes) < 1 << 24
        matrix = np.ascontiguousarray(
            values.transpose(1, 2, 0), dtype=np.float32 if exact else np.float64
        )
        scales = None
        if extra:
            scales = tail.reshape(tiles, groups, extra, config.tile_rows)
            scales = scales.transpose(0, 3, 1, 2).reshape(tiles * config.tile_rows, groups, extra)
        if immutable and self._cached + matrix.size <= _CACHED_WEIGHTS:
            self._cached += matrix.size
            self._weights[key] = matrix, scales
        return matrix, scales

    def _trit_beats(self, planes, steps, sparse):
        """Beats of a group's trits."""
        return self.config.gearing.beats(steps) if sparse else planes * steps

    def _matvec(
        self, dst, vector_stride, act, tiles, groups, planes, steps, vectors, vectors_slot,
        scaled, aux, to_candidates, source, head, fence, sparse,
    ):  # fmt: skip
        config, slot = self.config, self._now
        planes = 1 if sparse else planes
        if vectors_slot:
            vectors, vector_stride = len(self._job.slots), self.slot_stride
        blocks = 1
        if source == isa.Source.KEYS:
            tiles = slot.position // config.tile_rows + 1
        if source == isa.Source.VALUES:
            blocks = slot.position // config.tile_k + 1
        extra = scaled * (1 + aux)
        body = self._trit_beats(planes, steps, sparse)
        sets = blocks * tiles * groups
        length = sets * body + (config.scale_beats_of(sets, aux) if scaled else 0)
        length *= config.beat_bytes
        address = self._address(source, head, length)
        # Blocks of values are further groups along K whose results add up.
        matrix, scales = self._weights_at(
            address, length, blocks * tiles, groups, planes, steps, extra, sparse,
            source == isa.Source.LINEAR,
        )  # fmt: skip
        rows = tiles * config.tile_rows
        width = steps * config.tile_k
        matrix = matrix.reshape(groups, width, blocks, rows).transpose(2, 0, 1, 3)
        codes = self.activation[:vectors, act * config.tile_k :][:, : blocks * groups * width]
        codes = codes.reshape(vectors, blocks, groups, width).transpose(1, 2, 0, 3)
        # [blocks, groups, vectors, rows]
        acc = np.rint(codes.astype(matrix.dtype) @ matrix).astype(np.int64)
        result = np.zeros((vectors, rows), dtype=np.int64)
        for block in range(blocks):
            for group in range(groups):
                part = acc[block, group]
                if scaled:
                    code = scales[block * rows : (block + 1) * rows, group, 0]
                    part = integer.scaled_accumulator(part, code)
                result = integer.sat32(result + part)
        if to_candidates:
            self.logits = result[:, : self.rows]
            return
        for vector in range(vectors):
            start = dst + vector * vector_stride
            self.scratch[start : start + rows] = result[vector]
        if aux:
            start = dst + vectors * vector_stride
            self.scratch[start : start + rows] = integer.scale_to_fixed(scales[:, -1, 1])

    def _vec(
        self, dst, a, b, dst_slot, a_slot, b_slot, n, bound, destination, vector, vector_slot, m, x,
        shift, by_m, by_x, b_shift, b_by_x, by_vector, relu, add, planes, reduce, rd, spare,
    ):  # fmt: skip
        n = self._bound(n, bound)
        a, b = self._base(a, a_slot), self._base(b, b_slot)
        if destination == isa.Destination.SCRATCH:
            dst = self._base(dst, dst_slot)
        factor, exponent = self.scalar(m), self.scalar(x).exponent
        left = self.scratch[a : a + n]
        right = self.scratch[b : b + n]
        if relu:
            left = np.maximum(left, 0)
        if by_vector:
            pre = min(max(b_shift + (exponent if b_by_x else 0), 0), 31)
            product = left * integer.sat18(integer.round_shift(right, pre))
        else:
            product = left * factor.mantissa
        post = shift - (factor.exponent if by_m else 0) + (exponent if by_x else 0)
        result = integer.sat32(integer.round_shift(product, min(max(post, 0), 63)))
        if add:
            result = integer.sat32(result + right)
        if planes:
            result = np.clip(result, -limit(planes), limit(planes))
        if destination == isa.Destination.SCRATCH:
            self.scratch[dst : dst + n] = result
        elif destination != isa.Destination.NONE:
            if destination == isa.Destination.ACTIVATION:
                codes = np.clip(result, -127, 127)
            else:
                codes = np.clip(result, 0, 16383)
                codes = codes >> 7 if destination == isa.Destination.HIGH else codes & 127
            step = self.config.tile_k
            row = self.activation[vector + (self._slot if vector_slot else 0)]
            row[dst * step : (dst + -(-n // step)) * step] = 0
            row[dst * step : dst * step + n] = codes
        self._reduce(reduce, result, rd)

    def _reduce(self, reduce, result, rd):
        if reduce == isa.Reduce.ABSMAX:
            self.set_scalar(rd, integer.normalise(int(np.abs(result).max())))
        elif reduce == isa.Reduce.SUM:
            total = int(result.sum())
            if total < 0:
                raise ValueError(f"SUM reduces non-negative vectors, this one sums to {total}")
            self.set_scalar(rd, integer.normalise(total))
        elif reduce == isa.Reduce.MAX:
            self.peak = int(result.max())

    def _hadamard(self, a, a_slot, n, log2_block, rd):
        a = self._base(a, a_slot)
        result = integer.hadamard(self.scratch[a : a + n], 1 << log2_block)
        self.scratch[a : a + n] = result
        self._reduce(isa.Reduce.ABSMAX, result, rd)

    def _rope(self, a, a_slot, b, b_slot, n, size, shift):
        a, b, half = self._base(a, a_slot), self._base(b, b_slot), size // 2
        cosine = integer.sat18(self.scratch[b : b + half])
        sine = integer.sat18(self.scratch[b + half : b + size])
        heads = self.scratch[a : a + n].reshape(-1, 2, half)
        first, second = heads[:, 0].copy(), heads[:, 1].copy()
        heads[:, 0] = integer.sat32(integer.round_shift(first * cosine - second * sine, shift))
        heads[:, 1] = integer.sat32(integer.round_shift(second * cosine + first * sine, shift))

    def _exp(self, dst, a, dst_slot, a_slot, n, bound, m, shift, rd, function):
        n = self._bound(n, bound)
        a, dst, factor = self._base(a, a_slot), self._base(dst, dst_slot), self.scalar(m)
        values = self.scratch[a : a + n]
        if function == isa.Function.SIGMOID:
            distance = np.minimum(np.abs(values), integer.INT32_MAX)
        else:
            distance = np.clip(self.peak - values, 0, integer.INT32_MAX)
        z = np.minimum(
            integer.round_shift(
                distance * factor.mantissa, min(max(shift - factor.exponent, 0), 63)
            ),
            2**21 - 1,
        )
        if function == isa.Function.SIGMOID:
            result = integer.sigmoid(np.where(values < 0, -z, z))
        else:
            result = integer.exp2_negative(z)
        self.scratch[dst : dst + n] = result
        self._reduce(isa.Reduce.SUM, result, rd)

    def _scalar(self, rd, a, b, operation, imm):
        left, right = self.scalar(a), self.scalar(b)
        operation = isa.ScalarOp(operation)
        if operation is isa.ScalarOp.SQRT:
            result = integer.sqrt(left)
        elif operation is isa.ScalarOp.SHIFT:
            result = integer.shift(left, right, imm)
        elif operation is isa.ScalarOp.SCALE:
            result = integer.scale(left, imm)
        else:
            result = getattr(integer, operation.name.lower())(left, right)
        self.set_scalar(rd, result)

    def _kvwrite(self, a, a_slot, b, b_slot, kind, head, size, planes, scale, aux):
        config, slot = self.config, self._now
        a = self._base(a, a_slot)
        code, columns, rows = config.trit_code, config.tile_columns, config.tile_rows
        digits = integer.to_digits(self.scratch[a : a + size], planes)
        if kind == isa.Kind.KEY:
            steps = -(-size // config.tile_k)
            row = slot.position % rows
            record = (planes * steps + 2 * config.scale_beats) * config.beat_bytes
            address = self._address(isa.Source.KEYS, head, 0) + slot.position // rows * record
            tile = self._read(address, record)
            padded = np.zeros((planes, steps * config.tile_k), dtype=np.int8)
            padded[:, :size] = digits
            padded = padded.reshape(planes * steps, columns, code.trits_per_byte)
            body = tile[: planes * steps * config.beat_bytes].reshape(-1, rows, columns)
            body[:, row] = encode_trits(code, padded)
            scales = tile[planes * steps * config.beat_bytes :].reshape(2, -1).view("<u2")
            scales[:, row] = [integer.encode_scale(self.scalar(r)) for r in (scale, aux)]
        else:
            digit = slot.position % config.tile_k
            block = size // rows * planes * config.beat_bytes
            address = self._address(isa.Source.VALUE_BLOCK, head, block)
            target = self._read(address, block)
            b = self._base(b, b_slot)
            old = self.scratch[b : b + block // 4].astype("<i4").view(np.uint8)
            trits = _decode_table(code)[old].reshape(
                size // rows, planes, rows, columns * code.trits_per_byte
            )
            if digit == 0:
                trits = np.zeros_like(trits)
            trits[..., digit] = digits.reshape(planes, size // rows, rows).transpose(1, 0, 2)
            target[:] = encode_trits(code, trits.reshape(-1, code.trits_per_byte))
