"""The conditional GAN: networks, training, generation, in both directions. Zone: spending."""
