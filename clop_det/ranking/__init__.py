"""Which of several checkpoints gives the better detector, told from their frozen features before any fine-tuning."""
