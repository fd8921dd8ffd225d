"""Reading, converting, proving and saving checkpoints."""
