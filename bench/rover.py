"""The rover's heavy trials, whose figures stand in docs/rover.md: `python -m bench.rover NAME [--times N]`.

fuzz    bytes of noise and broken frames through both parsers and the firmware's protocol, under ASan and UBSan
line    frames over a bad line to the protocol, natively
"""

import argparse
import sys
import time

import numpy as np

from bench.rover_native import Native, over_a_bad_line
from firmware_bridge.framing import MAX_ENCODED, Parser, encode

_SEED = 11


def fuzz(times: int) -> bool:
    """`times` bytes through each parser."""
    native = Native()
    native.start(boot=2)
    found = native.fuzz(_SEED, times)
    clean = native.close() == 0
    print(
        f"C++: {found['bytes']} bytes, {found['frames']} frames, {found['bad']} times noise, {found['most_held']} held"
    )
    rng = np.random.default_rng(_SEED)
    parser = Parser()
    num_bytes = most = 0
    good = encode(4, 0, 7, b"")
    while num_bytes < times:
        noise = rng.integers(0, 256, 4096, dtype=np.uint8)
        noise[rng.random(4096) < 0.05] = 0
        line = noise.tobytes() + good
        for place in range(0, len(line), 509):
            parser.feed(line[place : place + 509])
            most = max(most, parser.num_held)
        num_bytes += len(line)
    counts = parser.counts
    print(f"Python: {num_bytes} bytes, {counts.frames} frames, {counts.bad} times noise, {most} held")
    return clean and max(found["most_held"], most) <= MAX_ENCODED


def line(times: int) -> bool:
    """`times` frames, each byte flipped, lost or doubled with a chance of 1e-3 each, to the native protocol."""
    native = Native()
    found = over_a_bad_line(native, times, _SEED)
    clean = native.close() == 0
    print(found)
    wrong = found.not_sent + found.twice + found.moved_after_stop + found.late_stops
    return clean and wrong == 0 and found.longest_deafness <= 3


TRIALS = {"fuzz": (fuzz, 10_000_000), "line": (line, 1_000_000)}


def main() -> int:
    """Run one trial; exit 1 when it found what must not be."""
    parser = argparse.ArgumentParser(prog="python -m bench.rover", description=__doc__)
    parser.add_argument("trial", choices=TRIALS)
    parser.add_argument("--times", type=int, default=None, metavar="N")
    args = parser.parse_args()
    trial, times = TRIALS[args.trial]
    began = time.perf_counter()
    good = trial(args.times or times)
    print(f"{args.trial}: {'good' if good else 'FAILED'}, {time.perf_counter() - began:.0f} s")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
