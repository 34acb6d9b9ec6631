"""Manifests: what a folder of clips says about itself. See `manifests/README.md` for the format.

folder = load_folder("shoot")
problems = lint(folder, Rules.shipped())
for clip in folder:
    clip.file, clip.path, clip.metadata
folder.locate(clip, "/metadata/title")     # where the title was written
folder.problem(clip, "/metadata/title", "…", code="…")  # the service's problem, with its place
"""

from paletta_cli.manifests.lint import lint
from paletta_cli.manifests.loader import load_folder
from paletta_cli.manifests.model import Clip, Folder, Position, Problem
from paletta_cli.manifests.rules import MediaLimits, Rules

__all__ = ["Clip", "Folder", "MediaLimits", "Position", "Problem", "Rules", "lint", "load_folder"]
