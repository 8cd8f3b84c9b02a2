"""One frozen, validated description from which everything is generated.

RTL, C header, linker script, register documents, memory image, golden model, cycle prediction and
reports all take a `Config`; nothing that it says is written a second time. Named presets are the
TOML files of ``tamale/presets``; users write files of the same form.
"""

import dataclasses
import json
import re
import tomllib
from functools import cached_property
from importlib import resources
from pathlib import Path

from tamale.codes import CODES, PLANES_MAX, QUAD, SPARSE_CODES
from tamale.gearing import Gearing

__all__ = ["Config", "load", "preset_names"]


def _power_of_two(value):
    return value > 0 and value & (value - 1) == 0


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that the generator needs to know.

    Parameters
    ----------
    name : str
        Name of the configuration, repeated in generated files.
    bus_width : int
        Bits of an AXI beat, 32 to 512. One beat of trits enters the array per cycle.
    code : str
        Weight code, a key of ``tamale.codes.CODES``: ``t5`` (1.6 bits a trit) or ``t4`` (2 bits).
    sparse_code : str
        Further code for matrices of one plane with one zero in every four weights along K, a key of
        ``tamale.codes.SPARSE_CODES``: ``s34`` (1.25 bits); or ``none``.
    tile_rows : int
        Matrix rows that one beat holds; a power of two that divides the bytes of a beat.
    vectors : int
        Activation vectors that share one sweep, 1 to 16.
    max_planes : int
        Most trit planes of a weight, 1 to 5; sizes the accumulators.
    max_k : int
        Longest row of a matrix, in weights; sizes activation memory and accumulators.
    max_context : int
        Most positions of a sequence.
    key_planes, value_planes : int
        Trits of a cached key or value element.
    head_planes : int
        Trits of a weight of the output head and of the embedding.
    group_size : int
        Weights along K that share a scale where the packer makes groups; 0: the whole row.
    vu_width : int
        Elements that the vector unit handles per cycle; a power of two.
    scratchpad_elements : int
        int32 elements of the scratchpad.
    program_commands : int
        Commands of program memory.
    program_width : int
        Bits of it that are read per cycle: 128, a command, from a copy for each of its two readers;
        or 32 from one memory of two ports, a quarter of the block RAM for three more cycles a
        command.
    fifo_beats : int
        Depth of the stream FIFO between DMA and array; a power of two.
    max_outstanding : int
        Read bursts that the DMA keeps in flight.
    candidates : int
        Largest logits that the hardware keeps for the sampler.
    cpu : str
        RISC-V core, a key of ``tamale.soc.cpu``.
    cpu_ram_bytes : int
        On-chip memory of the core.
    clock_hz : int
        Clock of accelerator and memory, and of the CPU unless it has its own.
    cpu_clock_hz : int
        Clock of CPU and peripherals; 0: ``clock_hz``.
    uart_baud : int
        Bits per second of the UART.
    storage : bool
        Whether the system has an SPI port for the configuration flash and an SD card, to boot
        from.
    flash_image_offset : int
        Where the flash holds the memory image, behind the bitstreams.
    engine : str
        What performs the commands: ``accelerator``, or the ``core`` itself, with a small engine for
        its sums of trits (see ``tamale.soc.core_soc``; with a memory other than ``flash`` it takes
        the accelerator's place in ``tamale.soc.soc``). Scratchpad and program are in its RAM then.
    memory : str
        ``sdram`` (single data rate, timing of ``sdram_part``), ``ddr3`` (timing of ``ddr3_part``,
        controller LiteDRAM), ``ideal``, or ``flash``: the image stays in the configuration flash,
        from ``flash_image_offset`` on, and caches lie in the core's memory.
    memory_width : int
        Bits that the memory moves in a clock: those of the SDRAM, 64 for 16-bit DDR3 on twice the
        clock, up to ``bus_width`` for the ideal memory, 4 for the flash.
    sdram_part : str
        A key of ``tamale.gateware.sdram.PARTS``.
    ddr3_part : str
        A key of ``tamale.gateware.litedram.PARTS``.
    memory_bytes : int
        Size of the memory.
    board : str
        Board that the configuration is meant for, or ``simulation``.
    """

    name: str = "default"
    bus_width: int = 32
    code: str = "t5"
    sparse_code: str = "none"
    tile_rows: int = 4
    vectors: int = 4
    max_planes: int = 5
    max_k: int = 1024
    max_context: int = 2048
    key_planes: int = 3
    value_planes: int = 3
    head_planes: int = 5
    group_size: int = 0
    vu_width: int = 4
    scratchpad_elements: int = 32768
    program_commands: int = 512
    program_width: int = 128
    fifo_beats: int = 2048
    max_outstanding: int = 4
    candidates: int = 32
    cpu: str = "vexriscv"
    cpu_ram_bytes: int = 65536
    clock_hz: int = 80_000_000
    cpu_clock_hz: int = 0
    uart_baud: int = 1_000_000
    storage: bool = False
    flash_image_offset: int = 0x400000
    engine: str = "accelerator"
    memory: str = "sdram"
    memory_width: int = 16
    sdram_part: str = "IS42S16160G-7"
    ddr3_part: str = "MT41K256M16"
    memory_bytes: int = 32 << 20
    board: str = "simulation"

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is not field.type:
                raise TypeError(
                    f"configuration {field.name} must be {field.type.__name__}, not {value!r}"
                )

        def require(name, valid, mend):
            if not valid:
                raise ValueError(f"configuration {name} = {getattr(self, name)!r}: {mend}")

        require(
            "name",
            re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", self.name),
            "use letters, digits, _, . and -, for it names files",
        )
        require("code", self.code in CODES, f"known codes are {', '.join(CODES)}")
        require(
            "bus_width",
            _power_of_two(self.bus_width) and 32 <= self.bus_width <= 512,
            "use a power of two from 32 to 512 bits",
        )
        require(
            "tile_rows",
            _power_of_two(self.tile_rows) and self.beat_bytes % self.tile_rows == 0,
            f"use a power of two up to the {self.beat_bytes} bytes of a beat",
        )
        require("vectors", 1 <= self.vectors <= 16, "use 1 to 16 vectors")
        require("max_planes", 1 <= self.max_planes <= PLANES_MAX, f"use 1 to {PLANES_MAX} planes")
        for name in ("key_planes", "value_planes", "head_planes"):
            require(
                name,
                1 <= getattr(self, name) <= self.max_planes,
                f"use 1 to max_planes = {self.max_planes}",
            )
        require("group_size", self.group_size in (0, 64, 128, 256), "use 0, 64, 128 or 256")
        require("max_k", 16 <= self.max_k <= 16383, "use 16 to 16383")
        require("max_context", 16 <= self.max_context <= 16383, "use 16 to 16383 positions")
        require(
            "vu_width",
            _power_of_two(self.vu_width) and self.vu_width <= 32,
            "use a power of two up to 32",
        )
        require(
            "scratchpad_elements",
            1024 <= self.scratchpad_elements <= 1 << 17
            and self.scratchpad_elements % self.vu_width == 0,
            "use 1024 to 131072 elements, a multiple of vu_width",
        )
        require("program_commands", 16 <= self.program_commands <= 4096, "use 16 to 4096")
        require("program_width", self.program_width in (32, 128), "use 32 or 128 bits")
        require(
            "fifo_beats",
            _power_of_two(self.fifo_beats) and self.fifo_beats >= 64,
            "use a power of two from 64",
        )
        require("max_outstanding", 1 <= self.max_outstanding <= 16, "use 1 to 16")
        require("candidates", 1 <= self.candidates <= 64, "use 1 to 64")
        require("clock_hz", self.clock_hz >= 1_000_000, "use 1 MHz or more")
        require(
            "cpu_clock_hz",
            self.cpu_clock_hz == 0 or 1_000_000 <= self.cpu_clock_hz <= self.clock_hz,
            "use 1 MHz to clock_hz, or 0 for the same clock",
        )
        require(
            "uart_baud",
            0 < self.uart_baud <= (self.cpu_clock_hz or self.clock_hz) // 8,
            "use at most an eighth of the CPU's clock",
        )
        require(
            "flash_image_offset",
            0 <= self.flash_image_offset < 1 << 24 and self.flash_image_offset % 65536 == 0,
            "use a multiple of 65536 (what the flash erases at once) below 16 MiB",
        )
        # Imported here: these modules need Amaranth, which a reader of configurations does not.
        from tamale.gateware.litedram import PARTS as DDR3_PARTS
        from tamale.gateware.sdram import PARTS
        from tamale.soc.cpu import CPUS

        require("cpu", self.cpu in CPUS, f"known cores are {', '.join(CPUS)}")
        require(
            "engine", self.engine in ("accelerator", "core"), "known engines are accelerator, core"
        )
        if self.engine == "core":
            mend = "with engine = 'core' use flash or sdram"
            require("memory", self.memory in ("flash", "sdram"), mend)
        else:
            mend = "use sdram, ddr3 or ideal; flash goes with engine = 'core'"
            require("memory", self.memory in ("sdram", "ddr3", "ideal"), mend)
        require(
            "memory_width",
            self.memory == "flash"
            or (_power_of_two(self.memory_width) and 16 <= self.memory_width <= self.bus_width),
            f"use a power of two from 16 to bus_width = {self.bus_width}",
        )
        require("sdram_part", self.sdram_part in PARTS, f"known parts are {', '.join(PARTS)}")
        bits = PARTS[self.sdram_part].data_bits
        require(
            "memory_width",
            self.memory != "sdram" or self.memory_width == bits,
            f"{self.sdram_part} moves {bits} bits; use {bits}, or the ideal memory",
        )
        require(
            "ddr3_part", self.ddr3_part in DDR3_PARTS, f"known parts are {', '.join(DDR3_PARTS)}"
        )
        require(
            "memory_bytes",
            _power_of_two(self.memory_bytes) and 1 << 16 <= self.memory_bytes <= 1 << 30,
            "use a power of two from 64 KiB to 1 GiB",
        )
        if self.engine == "core":
            self._require_core(require)
        if self.memory == "sdram":
            size = PARTS[self.sdram_part].size
            require("memory_bytes", self.memory_bytes <= size, f"{self.sdram_part} has {size}")
        if self.memory == "ddr3":
            part = DDR3_PARTS[self.ddr3_part]
            for name, value in (
                ("bus_width", part.data_width), ("memory_width", part.width_per_clock)
            ):  # fmt: skip
                mend = f"{part.name} needs {value}; use that, or another memory"
                require(name, getattr(self, name) == value, mend)
            require("memory_bytes", self.memory_bytes <= part.size, f"{part.name} has {part.size}")
        require(
            "sparse_code",
            self.sparse_code == "none" or self.sparse_code in SPARSE_CODES,
            f"known sparse codes are {', '.join(SPARSE_CODES)}, or none",
        )
        require(
            "sparse_code",
            self.sparse is None or self.tile_k % QUAD == 0,
            f"it needs K steps of a multiple of {QUAD} weights, they have {self.tile_k}; use fewer "
            "tile_rows, a wider bus, or none",
        )
        require("tile_rows", self.tile_k < 256, "use more rows: a K step holds at most 255 weights")
        require(
            "cpu_ram_bytes",
            16384 <= self.cpu_ram_bytes <= 1 << 20 and self.cpu_ram_bytes % 4096 == 0,
            "use 16 KiB to 1 MiB, a multiple of 4096",
        )

    def _require_core(self, require):
        """Refuse what firmware and its engine do not do."""
        from tamale.soc.core_soc import FIRMWARE_OFFSET
        from tamale.soc.qspi import FLASH_BYTES
        from tamale.soc.spram import SPRAM_BYTES

        for name, value in (
            ("bus_width", 32), ("tile_rows", 1), ("vectors", 1), ("vu_width", 1), ("code", "t5"),
            ("sparse_code", "none"), ("cpu_clock_hz", 0), ("storage", False),
        ):  # fmt: skip
            require(name, getattr(self, name) == value, f"with engine = 'core' use {value!r}")
        if self.memory != "flash":
            held = 4 * self.scratchpad_elements + 16 * self.program_commands
            mend = f"scratchpad and program take {held:,} bytes of it, besides the firmware"
            require("cpu_ram_bytes", self.cpu_ram_bytes > held, mend)
            return
        for name, value in (
            ("cpu_ram_bytes", SPRAM_BYTES), ("memory_bytes", FLASH_BYTES), ("memory_width", 4)
        ):  # fmt: skip
            require(name, getattr(self, name) == value, f"with memory = 'flash' use {value!r}")
        require(
            "flash_image_offset",
            self.flash_image_offset >= 2 * FIRMWARE_OFFSET,
            f"use {2 * FIRMWARE_OFFSET} or more; bitstream and firmware come before the image",
        )

    @property
    def beat_bytes(self):
        """Bytes of an AXI beat."""
        return self.bus_width // 8

    @property
    def trit_code(self):
        """The `TritCode`."""
        return CODES[self.code]

    @property
    def sparse(self):
        """The `SparseCode`, or None."""
        return SPARSE_CODES.get(self.sparse_code)

    @cached_property
    def gearing(self):
        """The `Gearing` of K steps of the sparse code, or None."""
        if self.sparse is None:
            return None
        return Gearing(self.bus_width, self.lanes // QUAD * self.sparse.bits)

    @property
    def code_ident(self):
        """Both codes as image headers have them: bits 7:0, and 15:8 where there is a sparse one."""
        return self.trit_code.ident | (self.sparse.ident << 8 if self.sparse else 0)

    @property
    def tile_columns(self):
        """Bytes of a beat that belong to one row."""
        return self.beat_bytes // self.tile_rows

    @property
    def tile_k(self):
        """Weights of one row in a beat: one K step of the array."""
        return self.tile_columns * self.trit_code.trits_per_byte

    @property
    def lanes(self):
        """Trits that the array takes per cycle."""
        return self.tile_rows * self.tile_k

    @property
    def scale_beats(self):
        """Beats of the 16-bit scales of one tile's rows."""
        return -(-2 * self.tile_rows // self.beat_bytes)

    @property
    def max_groups(self):
        """Groups along K that the array counts: of 32 weights, or of a K step if that is less."""
        count = -(-max(self.max_k, 256) // min(self.tile_k, 32))
        return min(255, (1 << count.bit_length()) - 1)

    @property
    def scale_share(self):
        """Groups in a row whose scales one beat holds, where no auxiliary scales are among them."""
        return max(1, self.beat_bytes // (2 * self.tile_rows))

    def scale_beats_of(self, groups, aux=False):
        """Return the beats of the scales of so many groups of tiles in a row."""
        if aux:
            return 2 * groups * self.scale_beats
        return -(-groups // self.scale_share) * self.scale_beats

    @cached_property
    def act_steps(self):
        """K steps of activation memory.

        One linear layer's codes, one head's query codes (at most a quarter of max_k or 256
        elements) and the probabilities of a whole context lie in it side by side.
        """
        steps = sum(-(-size // self.tile_k) for size in (self.max_k, 256, self.max_context))
        return 1 << (steps + 2).bit_length()

    @property
    def accumulator_width(self):
        """Bits of an accumulator: sign, and max_k products of 128 and limit(max_planes)."""
        from tamale.codes import limit

        return (128 * limit(self.max_planes) * self.max_k).bit_length() + 1

    def replace(self, **changes):
        """Return a copy with other values, validated again."""
        return dataclasses.replace(self, **changes)

    def to_toml(self):
        """Return the text of a TOML file that loads as this configuration."""
        lines = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            # JSON's strings are TOML's, and its numbers too.
            lines.append(f"{field.name} = {json.dumps(value)}")
        return "\n".join(lines) + "\n"


def preset_names():
    """Return the names of the presets, sorted."""
    folder = resources.files("tamale") / "presets"
    return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml"))


def load(name):
    """Return the configuration of a preset's name or of a TOML file's path.

    Raises
    ------
    ValueError
        For an unknown preset, a missing file, a syntax error, an unknown key or a bad value.
    """
    path = Path(name)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ValueError(f"configuration file {str(name)!r} does not exist")
        text = path.read_text()
    elif str(name) in preset_names():
        text = (resources.files("tamale") / "presets" / f"{name}.toml").read_text()
    else:
        raise ValueError(
            f"unknown configuration {str(name)!r}; use a .toml file or one of "
            f"{', '.join(preset_names())}"
        )
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"configuration {str(name)!r} is not valid TOML: {error}") from error
    known = [field.name for field in dataclasses.fields(Config)]
    for key in values:
        if key not in known:
            raise ValueError(
                f"configuration {str(name)!r}: unknown key {key!r}; known: {', '.join(known)}"
            )
    values.setdefault("name", path.stem)
    try:
        return Config(**values)
    except TypeError as error:
        raise ValueError(f"configuration {str(name)!r}: {error}") from error
