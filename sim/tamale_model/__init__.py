"""Host side of a model: checkpoint reader, image packer, golden model, training recipe."""
