"""Fuzzed bytes through every parser of Roomba and Neato: `python -m bench.fuzz_parsers --bytes 10000000`.

Random bytes, real traffic, and real traffic with bytes flipped, cut and doubled, in chunks of any size. No parser may
raise, hold more back than it says, or grow; after the noise each must still read what is whole. Exit 1 otherwise.
"""

import argparse
import random
import resource
import sys
import time
from collections.abc import Callable

from firmware_bridge import neato_console as console
from firmware_bridge import oi
from firmware_bridge.emulators import neato, roomba

PACKETS = (7, 35, 41, 42, 43, 44)
_MAX_GROWTH_KB = 20_000


def command_bytes() -> bytes:
    """What hosts say to a Roomba."""
    return b"".join(
        (oi.START, oi.SAFE_MODE, oi.stream(PACKETS), oi.drive_direct(200, -100), oi.pwm_motors(50, 60, 70), oi.HALT)
    ) + oi.song(1, ((60, 8), (64, 8)))


def frame_bytes() -> bytes:
    """What a Roomba streams."""
    layout = oi.StreamLayout(PACKETS)
    return b"".join(layout.encode((n % 4, 2, n, -n, 19 * n, 65_535 - n)) for n in range(20))


def line_bytes() -> bytes:
    """What hosts say to a Neato."""
    move = console.Move(150, -40, 300).command().encode()
    return b"GetMotors\nTestMode On\n" + move + b"\nCle House\nSetMotor Brush RPM 900\n" + console.HALT


def reply_bytes() -> bytes:
    """What a Neato answers."""
    return neato.Emulator().feed(b"GetErr\nGetMotors\nGetLDSScan\nGetErr\n")


def noisy(real: bytes, chance: random.Random) -> bytes:
    """Some of it whole, some damaged, some random."""
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 400))
    start = chance.randrange(len(real))
    piece = bytearray(real[start : start + chance.randrange(1, 400)] if kind < 3 else real)
    if kind == 2:
        for _ in range(1 + len(piece) // 50):
            piece[chance.randrange(len(piece))] ^= chance.randrange(1, 256)
    return bytes(piece)


def fuzz(feed: Callable[[bytes], object], held: Callable[[], int], most: int, real: bytes, num: int, seed: int) -> int:
    """Feed num bytes; the most that was held back. AssertionError beyond `most`."""
    chance, fed, worst = random.Random(seed), 0, 0
    while fed < num:
        data = noisy(real, chance)
        feed(data)
        fed += len(data)
        worst = max(worst, held())
        assert worst <= most, f"{worst} bytes held back, {most} allowed"
    return worst


def main() -> int:
    """Every parser, then the robots as wholes."""
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("--bytes", type=int, default=10_000_000)
    num = args.parse_args().bytes
    commands, decoder = oi.CommandParser(), oi.StreamDecoder(PACKETS)
    lines, replies = console.LineReader(), console.ReplyReader()
    one, other = roomba.Emulator(), neato.Emulator()
    trials: list[tuple[str, Callable[[bytes], object], Callable[[], int], int, bytes]] = [
        ("Roomba commands", commands.feed, lambda: len(commands._buffer), 513, command_bytes()),
        ("Roomba frames", decoder.feed, lambda: len(decoder._buffer), decoder.layout.size - 1, frame_bytes()),
        ("Neato lines", lines.feed, lambda: len(lines._buffer), console.MAX_LINE, line_bytes()),
        ("Neato replies", lambda d: replies.feed(d, "GetErr"), lambda: len(replies._buffer), 32_768, reply_bytes()),
        ("Roomba emulator", one.feed, lambda: len(one._parser._buffer), 513, command_bytes()),
        ("Neato emulator", other.feed, lambda: len(other._reader._buffer), console.MAX_LINE, line_bytes()),
    ]
    failed = False
    for name, feed, held, most, real in trials:
        fuzz(feed, held, most, real, num // 20, 0)  # what a parser needs, it has now
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        worst = fuzz(feed, held, most, real, num, 1)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        failed |= grown > _MAX_GROWTH_KB
        seconds = time.perf_counter() - began
        print(
            f"{name}: {num} bytes in {seconds:.0f} s, {worst} held back at most ({most}), {grown} kB grown", flush=True
        )
    decoder.feed(bytes(decoder.layout.size))
    lines.feed(b"\n")
    replies.feed(b"\x1a", "")
    whole = len(decoder.feed(frame_bytes() + bytes(decoder.layout.size))) == 20
    whole &= lines.feed(b"GetErr\n") == ["GetErr"]
    whole &= replies.feed(neato.Emulator().feed(b"GetErr\n"), "GetErr") is not None
    print("what is whole is read after it" if whole else "NOT READ AFTER THE NOISE")
    return 1 if failed or not whole else 0


if __name__ == "__main__":
    sys.exit(main())
