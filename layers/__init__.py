"""What the network is made of: convolutions, pooling, wide linear layers and their optimiser. Knows no data and no options."""
