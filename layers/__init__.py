"""What the network is made of: convolutions, dropout, pooling, mix-up, wide layers and their optimiser; no data, no options."""
