"""Why a text shows its topic, or does not: what was measured at every token, and the causes found in it."""
