"""From a budget to a chip: workloads, platforms, costs, sizing, and the audit of the essay.

What is known of the world lies in ``data/`` as TOML, every figure with its source or marked as an
assumption, and users override it; what follows from it is computed here. Nothing here draws, prints
or runs a simulator: that is `tamale_sim`.
"""
