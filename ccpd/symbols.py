"""The symbols of a Chinese licence plate."""

from __future__ import annotations

PROVINCES = "京沪津渝冀晋蒙辽吉黑苏浙皖闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新"  # 31, in the order of the alphabet CHARS
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"  # 24: I and O are not issued, they read as 1 and 0
DIGITS = "0123456789"
