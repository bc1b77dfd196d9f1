"""How other tools call this package: batches of videos, annotation tools, leaderboards.

Nothing here imports the tool that it serves, unless a function's docstring says so.
"""

from .batches import ClassifyVideos, EmbedVideos

__all__ = ["ClassifyVideos", "EmbedVideos"]
