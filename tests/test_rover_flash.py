"""`make flash` against a boot loader on a pty: the firmware that is built is what avrdude writes and reads back."""

import os
import select
import shutil
import subprocess
import threading
import tty
from pathlib import Path

import pytest

from firmware_bridge.rover_build import SOURCES, missing

pytestmark = pytest.mark.skipif(
    bool(missing("emulator")) or shutil.which("avrdude") is None, reason="no avr-gcc or avrdude: see docs/rover.md"
)
SIGNATURE = bytes((0x1E, 0x95, 0x0F))  # of an ATmega328P
PAGE = 128
# STK500 version 1: how many bytes follow each command, before the byte 0x20 that ends it.
LENGTH = {0x30: 0, 0x41: 1, 0x42: 20, 0x45: 5, 0x50: 0, 0x51: 0, 0x55: 2, 0x56: 4, 0x74: 3, 0x75: 0}


class BootLoader:
    """A chip of 32 kB that speaks as Optiboot does."""

    def __init__(self) -> None:
        self.flash = bytearray(b"\xff" * 32_768)
        self.num_pages = 0
        self._address = 0
        self._inbox = b""

    def feed(self, data: bytes) -> bytes:
        self._inbox += data
        out = b""
        while self._inbox:
            command = self._inbox[0]
            length = LENGTH.get(command, 0)
            if command == 0x64 and len(self._inbox) >= 3:
                length = 3 + int.from_bytes(self._inbox[1:3], "big")
            if len(self._inbox) < length + 2 or (command == 0x64 and len(self._inbox) < 4):
                return out
            body, self._inbox = self._inbox[1 : 1 + length], self._inbox[length + 2 :]
            out += b"\x14" + self._answer(command, body) + b"\x10"
        return out

    def _answer(self, command: int, body: bytes) -> bytes:
        if command == 0x55:
            self._address = 2 * int.from_bytes(body, "little")  # in words
        elif command == 0x64:
            assert body[2:3] == b"F" and len(body) - 3 <= PAGE
            self.flash[self._address : self._address + len(body) - 3] = body[3:]
            self.num_pages += 1
        elif command == 0x74:
            return bytes(self.flash[self._address : self._address + int.from_bytes(body[:2], "big")])
        elif command == 0x75:
            return SIGNATURE
        elif command in (0x41, 0x56):
            return b"\x03"
        return b""


def test_make_flash_writes_the_firmware_and_reads_it_back(tmp_path: Path) -> None:
    chip, ended = BootLoader(), threading.Event()
    ours, theirs = os.openpty()
    tty.setraw(theirs)

    def serve() -> None:
        while not ended.is_set():
            if select.select([ours], [], [], 0.1)[0]:
                os.write(ours, chip.feed(os.read(ours, 4096)))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        words = ["make", "-f", "Makefile", f"BUILD={tmp_path}", f"PORT={os.ttyname(theirs)}", "flash"]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        done = subprocess.run(words, cwd=SOURCES, env=clean, capture_output=True, text=True, timeout=120)
    finally:
        ended.set()
        thread.join()
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0, done.stderr[-1000:]
    image = tmp_path / "image.bin"
    subprocess.run(["avr-objcopy", "-I", "ihex", "-O", "binary", tmp_path / "rover.hex", image], check=True)
    firmware = image.read_bytes()
    assert 8_000 < len(firmware) <= PAGE * chip.num_pages
    assert bytes(chip.flash[: len(firmware)]) == firmware
