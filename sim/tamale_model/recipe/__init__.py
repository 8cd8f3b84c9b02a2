"""Recipe of the demonstration model: texts, tokenizer, training, evaluation, export.

`python -m tamale_model.recipe --help` lists the steps; `data/demo/README.md` beside this folder
records the run that made the model in the wheel. Here live only things that make a checkpoint:
whatever reads one (golden model, packer, runner) is elsewhere in `tamale_model` and must not import
from here, because `torch` is an optional dependency. `texts` and `packing` need NumPy at most;
`model`, `train` and `evaluate` need `torch` (extra `reference`).
"""
