"""Long jobs: prompts are read as they are needed, and texts are handed out as they are made."""
