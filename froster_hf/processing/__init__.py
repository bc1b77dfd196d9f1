"""From files and labels to tensors: `FrosterVideoProcessor` and `FrosterProcessor`."""
