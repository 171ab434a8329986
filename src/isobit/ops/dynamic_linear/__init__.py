"""dynamic_linear: a linear layer whose output step every run finds from its sums."""
