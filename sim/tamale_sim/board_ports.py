"""Ports that simulated boards of every kind show to the harness."""

from amaranth.lib.wiring import In, Out
from tamale.soc.soc import STORAGE

from .activity import Activity

__all__ = ["board_ports"]


def board_ports():
    """Return the members of a board; what they mean is in `board.BoardTop`."""
    return (
        {
            "cpu_clk": In(1),
            "uart_tx": Out(1, init=1),
            "uart_rx": In(1, init=1),
            "halted": Out(1),
            "exit_code": Out(32),
            "violation": Out(8),
            "memory_beat": Out(1),
            "logit_valid": Out(1),
            "logit_vector": Out(4),
            "logit_row": Out(20),
            "logit_value": Out(32),
            "activity": Out(len(Activity)),
        }
        | {
            f"{device}_{pin}": Out(1, init=int(pin != "sck"))
            for device in STORAGE.values()
            for pin in ("sck", "cs_n", "mosi")
        }
        | {f"{device}_miso": In(1, init=1) for device in STORAGE.values()}
    )
