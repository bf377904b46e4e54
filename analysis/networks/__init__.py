"""Networks by name: presets, peers, published figures, and FLOPs under every convention."""
