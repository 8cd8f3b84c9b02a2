"""The ideal memory with addresses 0x400 to 0x4FF answering SLVERR, of 8 KB."""

import os

os.environ.setdefault("SIZE", "8192")

import cocotb  # noqa: E402
from cocotb_memory import Channels, start  # noqa: E402
from cocotbext.axi import AxiResp  # noqa: E402


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def injected_errors(dut):
    await start(dut)
    port = Channels(dut)
    for base, beats, failing in ((0x3F8, 8, range(2, 8)), (0x4F8, 4, range(0, 2)), (0, 4, ())):
        await port.write(base, bytes(range(4 * beats)), [15] * beats)
        response = AxiResp.SLVERR if failing else AxiResp.OKAY
        assert int((await port.b.recv()).bresp) == response
        await port.read(base, beats)
        for beat in range(beats):
            answer = await port.r.recv()
            expected = AxiResp.SLVERR if beat in failing else AxiResp.OKAY
            assert int(answer.rresp) == expected
            if beat not in failing:
                word = int.from_bytes(range(4 * beat, 4 * beat + 4), "little")
                assert int(answer.rdata) == word
