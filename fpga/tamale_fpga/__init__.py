"""Open FPGA flow: boards, synthesis and routing of blocks and systems, reports."""
