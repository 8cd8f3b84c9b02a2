"""Post-training quantisation: a float model becomes trits with group scales ("Path B").

`method` quantises one matrix with the solvers of `gptq` and the scales of `scales`; `calibrate`
walks a model layer by layer through the float `graph`; `corpus` cuts calibration text; `report`
measures what was lost; `neutral` keeps the result on disk. NumPy only. Nothing here knows of a
configuration of the hardware, beyond what its scales can hold.
"""
