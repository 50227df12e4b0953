"""Building blocks of the network: convolutions, pooling, wide linear layers and their optimiser; no data, no options."""
