"""Speed and memory, as ratios against OpenCV's SIFT and ORB that run in the same turns."""
