"""Datasets: folders on the disk as pairs, views and scenes, with what is missing named."""
