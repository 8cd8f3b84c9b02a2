"""The system on chip around the accelerator: CPU, on-chip memory, peripherals, interconnect."""
