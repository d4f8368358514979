"""Compare several models over the same nights of past data: which is better, by how much, how sure, at what cost."""
