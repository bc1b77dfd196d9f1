"""Video in, tensors out: decoding, sampling, transforms, prompts."""
