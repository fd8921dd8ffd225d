"""Why contrastive embeddings collapse past a learning rate, and why class prototypes prevent it: executable theory."""
