"""A picture in full, for terminals that show more than blocks; the review screen steps aside for it."""

import os
import shutil
import sys

from paletta_cli import pictures


def view(jpeg: bytes) -> bool:
    """Show the picture as wide as the terminal until Return is pressed; False where the terminal cannot."""
    how = pictures.protocol(sys.__stdout__, os.environ) if sys.__stdout__ is not None else None
    if how is None or how == "blocks" or sys.__stdout__ is None:
        return False
    width, height = shutil.get_terminal_size()
    shape = pictures.decode(jpeg, 16)
    if shape is None:
        return False
    columns = max(8, min(width - 1, 2 * (height - 3) * 16 // max(1, shape.height)))
    drawn = pictures.render([jpeg], columns, how)
    if not drawn:
        return False
    sys.__stdout__.write(f"{drawn}\nReturn goes back to the review ")
    sys.__stdout__.flush()
    sys.stdin.readline()
    return True
