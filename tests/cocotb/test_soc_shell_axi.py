"""AXI mux and bridge against an independent AXI4 memory, under random stalls."""

import sys
from pathlib import Path

import pytest
from tamale.gateware import axi
from tamale.soc.axi_mux import AxiMux
from tamale_sim import runner

sys.path.insert(0, str(Path(__file__).parent))

from soc_designs import BridgedMemory  # noqa: E402


@pytest.mark.gates("axi-mux")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("managers", "priorities", "data_width"),
    [(3, None, 32), (3, [1, 0, 0], 64), (2, [0, 1], 32), (5, [2, 0, 1, 0, 1], 32)],
)
def test_mux(managers, priorities, data_width, seed):
    signatures = [
        axi.Signature(addr_width=32, data_width=data_width, id_width=1 + index)
        for index in range(managers)
    ]
    mux = AxiMux(signatures, priorities=priorities, write_bursts=4, patience=4)
    simulation = runner.build(mux, f"axi_mux_{managers}_{data_width}")
    simulation.run("cocotb_soc_axi", testcase="mux_random", seed=seed, env={"MANAGERS": managers})


@pytest.mark.gates("axi-bridge")
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("data_width", [32, 64, 128, 256, 512])
def test_bridge(data_width, seed):
    simulation = runner.build(BridgedMemory(0x10000, data_width), f"axi_bridge_{data_width}")
    simulation.run("cocotb_soc_axi", testcase="bridge_random", seed=seed)
