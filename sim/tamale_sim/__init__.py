"""Simulated board: DRAM models, Verilator harness, cocotb runner, and the `tamale` command line."""
