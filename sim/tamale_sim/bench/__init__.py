"""Benchmarks: figures of the design, each with its ratio to the limit.

======== =============================================================================
decode   tokens on the simulated board: cycles, roofline, who was idle and why
engine   area and clock of the routed engine
figures  the table: names, goals, and how a figure compares with them
picture  timeline of a token, roofline
======== =============================================================================
"""
