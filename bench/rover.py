"""The rover's heavy trials, whose figures stand in docs/rover.md: `python -m bench.rover NAME [--times N]`.

fuzz    bytes of noise and broken frames through both parsers and the firmware's protocol, under ASan and UBSan
line    frames over a bad line to the protocol, natively
silences  a host that falls silent in the middle of a drive, to the firmware in simavr: when do the motors stop?
chip    frames over a bad line to the firmware in simavr
hangs   a loop that hangs while it drives, in simavr
same    the same drive in simavr three times
sessions  calibration sessions on rover:emulator beside simvac, the same person and seed
"""

import argparse
import sys
import time

import numpy as np

from bench import rover_chip
from bench.beside import beside
from bench.rover_native import Native, over_a_bad_line
from firmware_bridge.framing import MAX_ENCODED, Parser, encode
from firmware_bridge.messages import CONTROL_MS, DEAD_MAN_MS

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


def silences(times: int) -> bool:
    """`times` silences: all motors off within the dead man's time and one control tick, on the chip's clock."""
    found = rover_chip.silences(times, _SEED)
    print(f"{times} silences: motors off after {min(found):.1f} to {max(found):.1f} ms of the chip's clock")
    return max(found) <= DEAD_MAN_MS + CONTROL_MS


def chip(times: int) -> bool:
    """`times` frames through simavr, either way over a line with errors of 1e-3 a byte."""
    found = rover_chip.over_a_bad_line(times, _SEED)
    print(found)
    return (found.not_sent, found.twice, found.moved_after_stop, found.deaf) == (0, 0, 0, 0)


def hangs(times: int) -> bool:
    """`times` hung loops: off within the watchdog's time, and still off a second later."""
    desk = rover_chip.Desk("rover-hangs.elf")
    found = [rover_chip.hang(desk, 20 + number % 41) for number in range(times)]
    last = max(ms for ms, _ in found)
    print(
        f"{times} hung loops: motors off after at most {last:.1f} ms, {sum(stayed for _, stayed in found)} stayed off"
    )
    return all(stayed for _, stayed in found) and last <= DEAD_MAN_MS


def same(times: int) -> bool:
    """Three runs of `times` drives over a bad line: the same bytes in the same cycles."""
    found = {b"".join([rover_chip.stamped_drive(seed) for seed in range(times)]) for _ in range(3)}
    print(f"3 runs of {times} drives: {len(found)} different, {len(min(found))} bytes with their cycles each")
    return len(found) == 1


def sessions(times: int) -> bool:
    """`times` seeds: every outcome within its stated error of the simulator's, as long as the person chooses alike."""
    found = beside("rover:emulator", "arena", times, 12)
    outside, num = found.outside("error")
    print(
        f"{times} sessions, {found.runs} runs on the same setting: {outside} of {num} figures outside their "
        f"stated error; {found.tipped} sessions took another choice later"
    )
    return found.runs >= times and outside <= 0.05 * num


TRIALS = {
    "fuzz": (fuzz, 10_000_000),
    "line": (line, 1_000_000),
    "silences": (silences, 1_000),
    "chip": (chip, 10_000),
    "hangs": (hangs, 100),
    "same": (same, 20),
    "sessions": (sessions, 4),
}


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
