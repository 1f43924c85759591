"""Models: a tokenizer, a network that turns text into features, and heads that turn features into scores."""
