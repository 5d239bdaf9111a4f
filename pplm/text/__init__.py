"""How a language model is steered: the core's first caller. Tensors and texts; no files."""
