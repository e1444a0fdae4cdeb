#!/bin/bash
# Run by `dmfs run --user`: stock tools without any right, on files that are told to be block devices. $1 is for scratch,
# $2 is what to do, $3 an image.
folder=$1
set -eu

must_fail() {
    ! "$@" 2>/dev/null || { echo "succeeded: $*"; exit 1; }
}

# The device $1 as a file system, which cannot be mounted here: $2 is write or read.
use() {
    case $2 in
    write)
        echo "what was written" >"$folder/text"
        debugfs -w -R "rm file" "$1" >/dev/null 2>&1
        debugfs -w -R "write $folder/text file" "$1" >/dev/null 2>&1
        ;;
    read) debugfs -R "cat file" "$1" 2>/dev/null | grep -qx "what was written" ;;
    esac
    fsck.ext4 -fn "$1" >/dev/null 2>&1
}

case $2 in
lvm-make | lvm-find)
    dmsetup create pv --table "0 $(($(stat -c %s "$3") / 512)) linear $3 0"
    pv=$DMFS_MOUNT/pv
    devices=$folder/dev
    scan=$DMFS_MOUNT
    # There is nothing in /sys about devices that the kernel does not know.
    sysfs=0
    . "$(dirname "$0")/lvm.sh"
    case $2 in lvm-make) make_volumes ;; lvm-find) find_volumes ;; esac
    ;;
crypt-make | crypt-find | crypt-killed | plain-make | plain-find)
    # Loop devices are root's: cryptsetup wants a block device, which a mapped one is told to be.
    dmsetup create disk --table "0 $(($(stat -c %s "$3") / 512)) linear $3 0"
    disk=/dev/mapper/disk
    n=secret
    . "$(dirname "$0")/cryptsetup.sh"
    case $2 in
    crypt-make) make_encrypted ;;
    crypt-find) find_encrypted ;;
    crypt-killed) killed ;;
    plain-make) plain write ;;
    plain-find) plain read ;;
    esac
    dmsetup remove disk
    test "$(dmsetup ls)" = "No devices found"
    ;;
files)
    test "$(id -u)" != 0
    dmsetup create a --table "0 131072 linear $3 0"
    for path in /dev/mapper/a "$DMFS_MOUNT/a"; do
        test -b "$path"
        test "$(stat -c %F "$path")" = "block special file"
    done
    test "$(stat -c %t:%T /dev/mapper/a)" = "$(dmsetup info -c --noheadings --separator : -o major,minor a | awk -F: '{printf "%x:%x", $1, $2}')"
    test "$(blockdev --getsz --getss --getpbsz --getro /dev/mapper/a | tr '\n' ' ')" = "131072 512 512 0 "
    mkfs.ext4 -q /dev/mapper/a
    fsck.ext4 -fn /dev/mapper/a >/dev/null 2>&1
    test "$(blkid -p -s TYPE -o value /dev/mapper/a)" = ext4
    # By links, also relative ones and from another folder.
    ln -sf /dev/mapper/a "$folder/link"
    ln -sf link "$folder/again"
    (cd "$folder" && test -b again && test "$(stat -Lc %F again)" = "block special file")
    blockdev --flushbufs /dev/mapper/a
    blkdiscard -z -o 4096 -l 8192 "$folder/again"
    must_fail blkdiscard -o 1 -l 512 /dev/mapper/a
    dd if="$folder/again" bs=4096 skip=1 count=2 status=none | cmp -n 8192 - /dev/zero
    # Open, it stays.
    exec 5</dev/mapper/a
    test "$(dmsetup info -c --noheadings -o open a)" = 1
    must_fail dmsetup remove a
    exec 5<&-
    dmsetup rename a b
    test ! -e /dev/mapper/a
    test -b /dev/mapper/b
    # What a table lies on is claimed.
    dmsetup create c --table '0 8 linear /dev/mapper/b 0'
    must_fail python3 -c 'import os; os.open("/dev/mapper/b", os.O_RDWR | os.O_EXCL)'
    # What the kernel would tell of them.
    number() { dmsetup info -c --noheadings --separator : -o major,minor "$1"; }
    sys=/sys/dev/block/$(number b)
    test "$(readlink "$sys")" = "../../devices/virtual/block/dm-$(number b | cut -d: -f2)"
    test "$(cat "$sys/dm/name" "$sys/dev")" = "b
$(number b)"
    folder() { python3 -c 'import os, sys; print(*os.listdir(sys.argv[1]))' "$1"; }
    test "$(folder "$sys/holders")" = "dm-$(number c | cut -d: -f2)"
    test "$(cat "/sys/block/$(folder "$sys/holders")/dm/name")" = c
    test -z "$(folder "$sys/slaves")"
    must_fail cat "$sys/dm/nothing"
    must_fail cat /sys/dev/block/7:999999/dm/name
    python3 -c 'import os; os.open("/dev/mapper/c", os.O_RDWR | os.O_EXCL)'
    dmsetup remove c b
    ;;
*) echo "what is $2?" && exit 2 ;;
esac
