"""What a network costs, layer by layer, under two named conventions."""
