"""Which language model: loading and freezing, its identity, shipped files, and the processes that share its work."""
