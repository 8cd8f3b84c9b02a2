"""What `tamale explore` shows: tables in the terminal, pictures, and one page with everything.

========= =========================================================
tables    rich tables, and the same as plain objects for ``--json``
pictures  roofline, Pareto front, bars: matplotlib figures
report    one self-contained HTML page, and the pictures as files
========= =========================================================

The figures come from `tamale_model.explore`; nothing is computed here.
"""
