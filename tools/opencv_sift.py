"""What people write today: SIFT, cross-check and USAC in ten lines. `pair.py` compares tiepoints with it."""

import sys

import cv2
import numpy as np

sift = cv2.SIFT_create(nfeatures=2048, contrastThreshold=0.01)
(ka, da), (kb, db) = (sift.detectAndCompute(cv2.imread(path, cv2.IMREAD_GRAYSCALE), None) for path in sys.argv[1:3])
matches = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(da, db)
a = np.array([ka[m.queryIdx].pt for m in matches])
b = np.array([kb[m.trainIdx].pt for m in matches])
_, inliers = cv2.findFundamentalMat(a, b, cv2.USAC_MAGSAC, 1.0, 0.999, 10000)
print(f"{len(ka)} and {len(kb)} keypoints, {len(matches)} matches, {int(inliers.sum())} inliers")
