"""`make demo`: what happens is in `selling.py` and `buying.py`, how it is shown in `shell.py`."""
