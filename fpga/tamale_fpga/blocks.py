"""Blocks that can be synthesised and routed alone."""

from collections.abc import Callable

from tamale.config import Config

__all__ = ["BLOCKS"]


def _array(config):
    from tamale.gateware.array import TernaryArray

    return TernaryArray(config)


def _engine(config):
    from tamale_fpga.engine import Engine

    return Engine(config)


def _decoder(config):
    from tamale.gateware.trits import PairDecoder

    return PairDecoder(config.trit_code)


def _encoder(config):
    from tamale.gateware.trits import TritEncoder

    return TritEncoder(config.trit_code)


def _sparse_decoder(config):
    from tamale.gateware.sparse import RowDecoder

    _need_sparse(config)
    return RowDecoder(config)


def _gearbox(config):
    from tamale.gateware.sparse import Gearbox

    _need_sparse(config)
    return Gearbox(config.gearing)


def _need_sparse(config):
    if config.sparse is None:
        raise ValueError(
            f"configuration {config.name} has no sparse code; use one with sparse_code"
        )


def _vector(config):
    from tamale.gateware.vector import VectorUnit

    return VectorUnit(config)


def _scalar(config):
    from tamale.gateware.scalar import ScalarUnit

    return ScalarUnit(config)


def _candidates(config):
    from tamale.gateware.candidates import Candidates

    return Candidates(config)


def _reader(config):
    from tamale.gateware.dma import StreamReader

    return StreamReader(config)


def _kv_writer(config):
    from tamale.gateware.kvwriter import KVWriter

    return KVWriter(config)


def _walker(config):
    from tamale.gateware.sequencer import StreamWalker

    return StreamWalker(config)


def _executor(config):
    from tamale.gateware.sequencer import Executor

    return Executor(config)


def _sdram(config):
    from tamale.gateware.sdram import PARTS, SdramController

    return SdramController(PARTS[config.sdram_part], config.clock_hz, data_width=config.bus_width)


def _accelerator(config):
    from tamale.gateware.accelerator import Accelerator

    return Accelerator(config)


#: Makers of the blocks, by name; each takes a `Config`.
BLOCKS: dict[str, Callable[[Config], object]] = {
    "array": _array,
    "engine": _engine,
    "decoder": _decoder,
    "encoder": _encoder,
    "sparse-decoder": _sparse_decoder,
    "gearbox": _gearbox,
    "vector": _vector,
    "scalar": _scalar,
    "candidates": _candidates,
    "reader": _reader,
    "kv-writer": _kv_writer,
    "walker": _walker,
    "executor": _executor,
    "sdram": _sdram,
    "accelerator": _accelerator,
}
