"""A server that speaks OpenAI's protocol: what clients ask, how it waits and is batched, and how it is answered."""
