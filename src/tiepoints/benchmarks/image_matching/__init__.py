"""The Image Matching Benchmark (Jin et al., IJCV 2021) on its own scenes and on any photographs with true cameras."""
