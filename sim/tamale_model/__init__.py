"""Host side of a model: checkpoint readers, quantisers, image packer, NumPy golden model, training recipe."""
