#!/usr/bin/env python3
"""Makes the tree that bench/sync.sh copies: many small files, one directory that holds a quarter of them.

Usage: sync_tree.py DIR [FILES]     (default 200,000 files of 0 to 8 KiB in FILES/100 directories)
Deterministic: the same arguments give the same names, sizes and contents.
"""
import os
import random
import sys


def main():
    root, files = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200_000
    rng = random.Random(7)
    block = rng.randbytes(16384)
    wide, directories = files // 4, max(files // 100, 1)
    os.makedirs(root)
    paths = ["wide"]
    while len(paths) < directories:
        paths.append(os.path.join(rng.choice(paths[-50:]), f"d{len(paths):05}") if len(paths) % 25 else f"top{len(paths):05}")
    for path in paths:
        os.makedirs(os.path.join(root, path), exist_ok=True)
    narrow = files - wide
    for number in range(files):
        where = "wide" if number < wide else paths[1 + (number - wide) * (directories - 1) // narrow]
        start = rng.randrange(8192)
        with open(os.path.join(root, where, f"file-{number:07}.dat"), "wb", buffering=0) as out:
            out.write(block[start : start + rng.randrange(8193)])


main()
