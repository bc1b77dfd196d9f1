"""How other tools call this package: batches of videos, an index to search in, annotation tools, leaderboards.

Nothing here imports the tool that it serves, unless a function's docstring says so.
"""

from .batches import ClassifyVideos, EmbedVideos
from .search import index_videos, open_index, search_videos

__all__ = ["ClassifyVideos", "EmbedVideos", "index_videos", "open_index", "search_videos"]
