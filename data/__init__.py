"""Data loading: from a dataset folder (sources, images, palette, vocabulary) to HDF5 files to batches."""
