"""FROSTER's configuration, temporal modules and models."""
