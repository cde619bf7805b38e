"""Statistics: what methods need to know about an expert besides its parameters."""
