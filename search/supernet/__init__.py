"""The static network of a genome, the super-network that shares its weights, and accuracy from them. Needs torch."""
