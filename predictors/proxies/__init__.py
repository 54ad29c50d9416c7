"""Zero-cost proxies: what can be told of a network from one batch of random inputs through its random weights. Needs torch."""
