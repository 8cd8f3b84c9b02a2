"""Tamale: a generator of ternary-weight inference hardware.

Configuration, gateware, system on chip and the generators of everything derived from them (Verilog,
C header, linker script, SVD, register documents). Nothing here reads a checkpoint or runs a
simulator.
"""
