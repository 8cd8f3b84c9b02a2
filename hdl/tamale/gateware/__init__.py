"""Amaranth blocks of the accelerator: buses, DMA, trit decoder, array, vector unit, sequencer."""
