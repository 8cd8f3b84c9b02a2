"""Benchmarks: figures of the design, each with its ratio to the limit.

======== =============================================================================
decode   tokens on the simulated board: cycles, roofline, who was idle and why
engine   area and clock of the routed engine
vectors  vectors that share a sweep
figures  the table: names, goals, and how a figure compares with them
kept     what was measured already
baseline what was recorded with this version
picture  timeline of a token
======== =============================================================================
"""
