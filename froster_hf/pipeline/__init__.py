"""The zero-shot pipeline: scores of labels for a video, and when in a long video they hold."""
