"""Long jobs: prompts that are read as they are needed, and texts that are given out as they are made."""
