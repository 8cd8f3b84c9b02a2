"""AXI4 memory port, with the names of the AMBA specification so that any simulator model attaches.

Source: AMBA AXI Protocol Specification (ARM IHI 0022), issue H, chapters A2 to A5.
"""

from amaranth.hdl import unsigned
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Burst", "Response", "Signature"]

#: Largest number of beats in one INCR burst (A3.4.1).
MAX_BURST_BEATS = 256

#: A burst must not cross a boundary of this many bytes (A3.4.1).
BOUNDARY = 4096


class Burst(enum.Enum, shape=2):
    """Values of ``awburst`` and ``arburst`` (A3.4.1)."""

    FIXED = 0
    INCR = 1
    WRAP = 2


class Response(enum.Enum, shape=2):
    """Values of ``bresp`` and ``rresp`` (A3.4.4)."""

    OKAY = 0
    EXOKAY = 1
    SLVERR = 2
    DECERR = 3


class Signature(wiring.Signature):
    """Signals of an AXI4 interface as its manager sees them.

    Locks, caches, protection, quality of service, regions and user signals are left out: everything
    here is normal memory, read and written in INCR bursts of full-width beats.

    Parameters
    ----------
    addr_width : int
        Bits of a byte address.
    data_width : int
        Bits of a beat: 8, 16, ... 1024.
    id_width : int
        Bits of a transaction identifier; 0 leaves the identifiers out.

    Members
    -------
    aw*, w*, b*
        Write address, write data and write response channels.
    ar*, r*
        Read address and read data channels.
    """

    def __init__(self, *, addr_width=32, data_width=32, id_width=1):
        if not isinstance(addr_width, int) or not 1 <= addr_width <= 64:
            raise ValueError(f"AXI address width must be 1 to 64 bits, not {addr_width!r}")
        if data_width not in (8, 16, 32, 64, 128, 256, 512, 1024):
            raise ValueError(
                f"AXI data width must be a power of two from 8 to 1024 bits, not {data_width!r}"
            )
        if not isinstance(id_width, int) or not 0 <= id_width <= 32:
            raise ValueError(f"AXI identifier width must be 0 to 32 bits, not {id_width!r}")
        self._widths = (addr_width, data_width, id_width)
        address = {
            "addr": unsigned(addr_width),
            "len": unsigned(8),
            "size": unsigned(3),
            "burst": Burst,
        }
        members = {}
        for channel in ("aw", "ar"):
            members |= {channel + name: Out(shape) for name, shape in address.items()}
            members |= {channel + "valid": Out(1), channel + "ready": In(1)}
        members |= {
            "wdata": Out(data_width),
            "wstrb": Out(data_width // 8),
            "wlast": Out(1),
            "wvalid": Out(1),
            "wready": In(1),
            "bresp": In(Response),
            "bvalid": In(1),
            "bready": Out(1),
            "rdata": In(data_width),
            "rresp": In(Response),
            "rlast": In(1),
            "rvalid": In(1),
            "rready": Out(1),
        }
        if id_width:
            members |= {"awid": Out(id_width), "arid": Out(id_width)}
            members |= {"bid": In(id_width), "rid": In(id_width)}
        super().__init__(members)

    @property
    def addr_width(self):
        """Bits of a byte address."""
        return self._widths[0]

    @property
    def data_width(self):
        """Bits of a beat."""
        return self._widths[1]

    @property
    def id_width(self):
        """Bits of a transaction identifier."""
        return self._widths[2]

    def __eq__(self, other):
        return isinstance(other, Signature) and self._widths == other._widths

    def __repr__(self):
        addr, data, ident = self._widths
        return f"axi.Signature(addr_width={addr}, data_width={data}, id_width={ident})"
