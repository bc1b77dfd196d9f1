"""Export folder, model card, upload, split towers."""
