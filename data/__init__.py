"""From a dataset folder to tensors: sources, images, palette and vocabulary -> hdf5 -> dataset."""
