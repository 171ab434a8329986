"""svdf: a fully connected layer that remembers, of low rank."""
