"""Images in, views out: layouts, the decoded store, label splits, batch order, augmentation, embedded digits."""
