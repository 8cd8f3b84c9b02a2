"""Simulated memories behind an AXI4 port: the SDRAM controller with its chip, and an ideal memory.

Both are components, to be part of a larger simulated system or to be simulated alone. Their Verilog
models must be among the sources of the build: `SOURCES`.
"""

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2
from tamale.gateware import axi
from tamale.gateware.sdram import SdramController

from .runner import MODELS

__all__ = ["IdealMemory", "SOURCES", "SimulatedSdram", "chip_parameters"]

#: Verilog models that the components instantiate.
SOURCES = (MODELS / "sdr_sdram.v", MODELS / "axi_memory.v")


def chip_parameters(controller):
    """Return the parameters of the model ``sdr_sdram`` for the part and clock of a controller, in
    clock cycles from the part's data sheet."""
    part = controller.part

    def cycles(name):
        return int(part.cycles(getattr(part, name), controller.clock_hz))

    parameters = {
        "BANK_BITS": exact_log2(part.banks),
        "ROW_BITS": part.row_bits,
        "COLUMN_BITS": part.column_bits,
        "DATA_BITS": part.data_bits,
        "ADDRESS_BITS": part.address_bits,
        "CAS_LATENCY": controller.cas_latency,
        "T_POWER_UP": controller.power_up,
        # An upper limit is rounded down, unlike the lower ones.
        "T_RAS_MAX": int(part.t_ras_max * controller.clock_hz // 10**9),
        "T_REFI": int(part.t_refi * controller.clock_hz // 10**9),
        "T_WINDOW": int(part.t_refi * (1 << part.row_bits) * controller.clock_hz // 10**9),
        "INIT_REFRESHES": 8,
    }
    for name in ("t_rp", "t_rcd", "t_ras", "t_rc", "t_rrd", "t_rfc", "t_wr", "t_mrd"):
        parameters[name.upper()] = cycles(name)
    return parameters


class SimulatedSdram(wiring.Component):
    """`SdramController` with the model of its chip, which checks every timing.

    The contents come from ``+image=FILE`` on the command line of the simulator; byte n of the file
    is at address n.

    Parameters
    ----------
    controller : SdramController
        The controller to be simulated. Its ``read_delay`` is made of registers as pads have them,
        the first half of them on the way to the chip.
    chip : dict
        Parameters of the model ``sdr_sdram`` that shall differ from those of the controller's part.

    Members
    -------
    axi : In(axi.Signature)
        Memory port of the controller.
    violation : Out(8)
        0, or the code of the first timing rule broken (see ``sdr_sdram.v``).
    read_word, write_word, refreshing, initialised : Out(1)
        Observation outputs of the controller.
    """

    def __init__(self, controller, chip=None):
        if not isinstance(controller, SdramController):
            raise TypeError(f"controller must be an SdramController, not {controller!r}")
        self._controller = controller
        self._chip = dict(chip or {})
        super().__init__(
            {
                "axi": In(controller.axi.signature.flip()),
                "violation": Out(8),
                "read_word": Out(1),
                "write_word": Out(1),
                "refreshing": Out(1),
                "initialised": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.controller = controller = self._controller
        wiring.connect(m, wiring.flipped(self.axi), controller.axi)
        for name in ("read_word", "write_word", "refreshing", "initialised"):
            m.d.comb += getattr(self, name).eq(getattr(controller, name))
        pins = controller.pins
        chip = chip_parameters(controller) | self._chip
        dq, dq_enable = Signal(controller.part.data_bits), Signal()

        def delayed(signal, cycles):
            for _ in range(cycles):
                later = Signal.like(signal, name=f"{signal.name}_pad")
                m.d.sync += later.eq(signal)
                signal = later
            return signal

        out = controller.read_delay // 2
        m.submodules.chip = Instance(
            "sdr_sdram",
            **{f"p_{name}": value for name, value in chip.items()},
            i_clk=ClockSignal(),
            **{
                f"i_{theirs}": delayed(getattr(pins, ours), out)
                for theirs, ours in {
                    **{name: name for name in ("cke", "cs_n", "ras_n", "cas_n", "we_n", "ba", "a")},
                    "dqm": "dqm", "dq_i": "dq_o", "dq_i_enable": "dq_oe",
                }.items()
            },
            o_dq_o=dq,
            o_dq_o_enable=dq_enable,
            o_violation=self.violation,
        )  # fmt: skip
        m.d.comb += pins.dq_i.eq(delayed(dq, controller.read_delay - out))
        return m


class IdealMemory(wiring.Component):
    """A memory without rows or refreshes, to compare with: model ``axi_memory``.

    The contents come from ``+image=FILE`` on the command line of the simulator.

    Parameters
    ----------
    data_width, addr_width, id_width : int
        Of the memory port.
    size : int
        Bytes; addresses beyond answer DECERR.
    latency : int
        Clocks from an accepted address to its first beat, 2 or more.
    beats_every : int
        Clocks per beat: ``data_width / 16`` gives the peak of a 16-bit SDRAM at the same clock.
    errors : range or None
        Byte addresses that answer SLVERR.

    Members
    -------
    axi : In(axi.Signature)
        Memory port.
    """

    def __init__(
        self,
        *,
        data_width=32,
        addr_width=32,
        id_width=1,
        size=1 << 20,
        latency=8,
        beats_every=1,
        errors=None,
    ):
        if id_width < 1:
            raise ValueError(f"id_width must be 1 or more, not {id_width!r}: tie unused bits to 0")
        if latency < 2:
            raise ValueError(f"latency must be 2 clocks or more, not {latency!r}")
        if beats_every < 1:
            raise ValueError(f"beats_every must be 1 clock or more, not {beats_every!r}")
        if size < 1 or size % (data_width // 8):
            raise ValueError(
                f"size must be a multiple of the beat of {data_width // 8} bytes, not {size!r}"
            )
        if errors is not None and (errors.step != 1 or not errors):
            raise ValueError(f"errors must be a range of byte addresses of step 1, not {errors!r}")
        signature = axi.Signature(addr_width=addr_width, data_width=data_width, id_width=id_width)
        self._parameters = {
            "ADDR_WIDTH": addr_width,
            "DATA_WIDTH": data_width,
            "ID_WIDTH": id_width,
            "SIZE": size,
            "LATENCY": latency,
            "BEATS_EVERY": beats_every,
        }
        if errors is not None:
            self._parameters |= {"ERROR_FIRST": errors.start, "ERROR_LAST": errors.stop - 1}
        super().__init__({"axi": In(signature)})

    def elaborate(self, platform):
        m = Module()
        ports = {"i_clk": ClockSignal(), "i_rst": ResetSignal()}
        for name, member in self.axi.signature.flip().members.items():
            direction = "i" if member.flow == Out else "o"
            port = getattr(self.axi, name)
            # Enumerations are views; an instance takes plain values.
            ports[f"{direction}_axi__{name}"] = getattr(port, "as_value", lambda port=port: port)()
        parameters = {f"p_{name}": value for name, value in self._parameters.items()}
        m.submodules.memory = Instance("axi_memory", **parameters, **ports)
        return m
