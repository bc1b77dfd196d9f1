"""Fine-tuning with a frozen teacher: arguments, losses, the Trainer."""
