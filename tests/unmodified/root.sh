#!/bin/bash
# Run by `dmfs run --root`: stock tools on real block devices. $1 is for scratch, $2 is what to do, $3 a loop device.
folder=$1
set -eu

# Names that no other device of the machine has.
n=$(basename "$folder" | tr -cd a-zA-Z0-9)

must_fail() {
    ! "$@" 2>/dev/null || { echo "succeeded: $*"; exit 1; }
}

# The device $1, a mapped device of the name $3, as a file system: $2 is write or read.
use() {
    fsck.ext4 -fn "$1" >/dev/null 2>&1
    mkdir -p "$folder/mnt"
    mount "$1" "$folder/mnt"
    case $2 in
    write) echo "what was written" >"$folder/mnt/file" ;;
    read) grep -qx "what was written" "$folder/mnt/file" ;;
    esac
    # Nobody takes a mounted device away.
    must_fail dmsetup remove "$3"
    umount "$folder/mnt"
}

case $2 in
lvm-make | lvm-find)
    pv=$3
    . "$(dirname "$0")/lvm.sh"
    case $2 in lvm-make) make_volumes ;; lvm-find) find_volumes ;; esac
    ;;
striped)
    # Two physical volumes that are mapped devices, side by side.
    dmsetup create $n-pv1 --table "0 98304 linear $3 0"
    dmsetup create $n-pv2 --table "0 98304 linear $3 98304"
    pv="/dev/mapper/$n-pv[12]"
    . "$(dirname "$0")/lvm.sh"
    lvm pvcreate -q /dev/mapper/$n-pv1 /dev/mapper/$n-pv2
    lvm vgcreate -q "$vg" /dev/mapper/$n-pv1 /dev/mapper/$n-pv2
    lvm lvcreate -q -y -W n -i 2 -I 64k -L 32M -n wide "$vg"
    expect lv_size,segtype,stripes wide 32.00m,striped,2
    mkfs.ext4 -q "/dev/$vg/wide"
    use_volume wide write
    use_volume wide read
    # What a table lies on is claimed.
    must_fail mount /dev/mapper/$n-pv1 "$folder/mnt"
    lvm vgremove -q -y "$vg"
    dmsetup remove $n-pv1 $n-pv2
    ;;
crypt-make | crypt-find)
    disk=$3
    . "$(dirname "$0")/cryptsetup.sh"
    case $2 in crypt-make) make_encrypted ;; crypt-find) find_encrypted ;; esac
    ;;
plain-make | plain-find)
    disk=$3
    . "$(dirname "$0")/cryptsetup.sh"
    case $2 in plain-make) plain write ;; plain-find) plain read ;; esac
    ;;
crypt-file)
    # An image: cryptsetup attaches a loop device by itself, which goes with the mapped one.
    . "$(dirname "$0")/cryptsetup.sh"
    disk=$3
    luks luksFormat --type luks2 $cheap "$disk"
    luks open "$disk" "$n"
    expect_told loop "$3"
    mkfs.ext4 -q "/dev/mapper/$n"
    use "/dev/mapper/$n" write "$n"
    luks resize --size 40960 "$n"
    cryptsetup close "$n"
    test -z "$(losetup --noheadings --associated "$3")"
    ;;
kpartx)
    kpartx -a "$3"
    name=$(basename "$3")
    test "$(blockdev --getsz "/dev/mapper/${name}p1")" = 4096
    test "$(blockdev --getsz "/dev/mapper/${name}p2")" = 8192
    mkfs.ext4 -q "/dev/mapper/${name}p2"
    test "$(dmsetup info -c --noheadings -o uuid "${name}p1" | cut -c1-6)" = part1-
    kpartx -d "$3"
    test ! -e "/dev/mapper/${name}p1"
    test -z "$(dmsetup ls | grep ^loop || true)"
    ;;
nodes)
    dmsetup create $n-a --table "0 2048 linear $3 0"
    test "$(stat -Lc %t:%T /dev/mapper/$n-a)" = "7:$(printf %x "$(dmsetup info -c --noheadings -o minor $n-a)")"
    echo before | dd of=/dev/mapper/$n-a conv=notrunc,fsync status=none
    # Open, it stays, and says how often.
    exec 5</dev/mapper/$n-a
    test "$(dmsetup info -c --noheadings -o open $n-a)" = 1
    must_fail dmsetup remove $n-a
    # A table swap leaves the open device in place.
    number=$(stat -Lc %T /dev/mapper/$n-a)
    dmsetup suspend $n-a
    dmsetup load $n-a --table "0 4096 linear $3 0"
    dmsetup resume $n-a
    test "$(blockdev --getsz /dev/mapper/$n-a)" = 4096
    test "$(stat -Lc %T /dev/mapper/$n-a)" = "$number"
    dmsetup rename $n-a $n-b
    test -b /dev/mapper/$n-b
    test ! -e /dev/mapper/$n-a
    head -c 6 <&5 | grep -q before
    dmsetup remove --deferred $n-b
    test "$(dmsetup info -c --noheadings -o name)" = $n-b
    exec 5<&-
    for i in $(seq 100); do [ -e /dev/mapper/$n-b ] || break; sleep 0.1; done
    test "$(dmsetup ls)" = "No devices found"
    # Read-only, another block size, read-ahead.
    dmsetup create -r $n-r --table "0 2048 linear $3 0"
    test "$(blockdev --getro /dev/mapper/$n-r)" = 1
    dmsetup create $n-s --table "0 16384 striped 2 1024 $3 0 $3 65536"
    test "$(blockdev --getra /dev/mapper/$n-s)" = 4096
    # What the kernel does not tell of them.
    sys=/sys/dev/block/$(dmsetup info -c --noheadings --separator : -o major,minor $n-s)
    test "$(cat $sys/dm/name)" = $n-s
    dmsetup create $n-t -u $n-T --table "0 2048 linear /dev/mapper/$n-s 0"
    folder() { python3 -c 'import os, sys; print(*os.listdir(sys.argv[1]))' "$1"; }
    above=$(folder $sys/holders)
    test "$above" = "loop$(dmsetup info -c --noheadings -o minor $n-t)"
    test "$(cat /sys/block/$above/dm/uuid)" = $n-T
    test "$(folder /sys/block/$above/slaves)" = "loop${sys##*:}"
    dmsetup remove $n-t
    test -z "$(folder $sys/holders)"
    # Devices of others are not ours.
    test ! -e "/sys/block/${3#/dev/}/dm"
    must_fail cat "/sys/block/${3#/dev/}/dm/name"
    test "$(dmsetup table "${3#/dev/}")" = "$(printf '0 %s linear 7:%d 0' "$(blockdev --getsz "$3")" "0x$(stat -c %T "$3")")"
    dmsetup remove_all
    ;;
*) echo "what is $2?" && exit 2 ;;
esac
