#!/usr/bin/python3
"""Run by `dmfs run`: a tool that talks nonsense to the control node. Every call ends with 0 or an errno."""

import ctypes
import errno
import os
import random
import struct
import sys

dice = random.Random(int(sys.argv[1]))
libc = ctypes.CDLL(None, use_errno=True)
control = os.open("/dev/mapper/control", os.O_RDWR)
seen = set()


def ioctl(number, address, kind=0xFD):
    """One call; its result or errno."""
    command = (3 << 30) | (312 << 16) | (kind << 8) | number
    done = libc.ioctl(control, ctypes.c_ulong(command), ctypes.c_void_p(address))
    seen.add(errno.errorcode[ctypes.get_errno()] if done < 0 else "OK")
    return done


def header(size, start=312, flags=0, name=b"", uuid=b"", count=0, version=(4, 0, 0), dev=0):
    return struct.pack("<3I4IIIIQ128s129s7x", *version, size, start, count, 0, flags, 0, 0, dev, name, uuid)


for _ in range(1500):
    number = dice.choice([*range(18), 18, 99, 255])
    if number in (1, 8, 16):
        continue  # what would take everything away, or wait
    size = dice.choice([0, 1, 304, 305, 312, 313, 400, 512, 4096, 16384, 2**31, 2**32 - 1])
    start = dice.choice([0, 312, 312, 312, 305, 4095, 2**31, 2**32 - 1])
    name = dice.choice([b"", b"x", b"y", b"a/b", b"..", b"control", b"\xff\xfe", b"n" * 128, b"keeps"])
    uuid = dice.choice([b"", b"", b"", b"u", b"\xff", b"u" * 129])
    if b"keeps" == name and number not in (7, 11, 12):
        name = b"x"
    flags = dice.choice([0, 0, 2, 8, 16, 1 << 14, 1 << 17, dice.getrandbits(32)])
    version = dice.choice([(4, 0, 0), (4, 0, 0), (4, 48, 0), (5, 0, 0), (4, 99, 0), (0, 0, 0)])
    count = dice.choice([0, 1, 2, 1000, 2**32 - 1])
    text = dice.choice([
        dice.randbytes(dice.randrange(600)),
        struct.pack("<QQiI16s", 0, 8, 0, dice.choice([0, 8, 48, 47, 2**32 - 1]), b"zero") + b"\0" * 24,
        b"new\0", b"new", b"",
    ])
    buffer = header(size, start, flags, name, uuid, count, version, dice.choice([0, 0, 0x700, 0xFC00])) + text
    room = ctypes.create_string_buffer(buffer, max(len(buffer), 16384))
    ioctl(number, ctypes.addressof(room))
# Addresses that lead nowhere.
for address in (0, 1, 2**47 - 200, 2**63):
    for number in (0, 2, 3, 9, 12):
        ioctl(number, address)
assert {"OK", "EINVAL", "ENXIO", "EFAULT", "ENOTTY"} <= seen, seen
# Another file is not the control node, whatever it is asked.
other = os.open("/dev/null", os.O_RDWR)
assert libc.ioctl(other, ctypes.c_ulong(0xC138FD00), ctypes.c_void_p(0)) < 0
assert ctypes.get_errno() == errno.ENOTTY, ctypes.get_errno()
