# The life of encrypted volumes, by cryptsetup itself. Sourced: $folder is for scratch, $disk a block device of 64 MiB, $n a
# name that no other device has; `use` says how a device is used as a file system.
set -eu

key=$folder/key
printf 'not a secret' >"$key"
cheap="--pbkdf pbkdf2 --pbkdf-force-iterations 1000"

luks() {
    cryptsetup --batch-mode --key-file "$key" "$@"
}

# What status says of $n in the line $1.
told() {
    cryptsetup status "$n" | sed -n "s/^ *$1: *//p"
}

expect_told() {
    local found
    found=$(told "$1")
    [ "$found" = "$2" ] || { echo "status: $1 is '$found', expected '$2'"; exit 1; }
}

must_sleep() {
    test "$(dmsetup info -c --noheadings -o suspended "$n")" = "$1"
}

# $1 is the kind of volume. It ends with a file system in it.
life() {
    luks luksFormat --type "$1" $cheap "$disk"
    luks open "$disk" "$n"
    expect_told type "${1^^}"
    expect_told cipher aes-xts-plain64
    expect_told device "$disk"
    mkfs.ext4 -q "/dev/mapper/$n"
    use "/dev/mapper/$n" write "$n"
    # Smaller, and as large as it goes.
    local size
    size=$(told size)
    luks resize --size 40960 "$n"
    expect_told size "40960 sectors"
    test "$(blockdev --getsz "/dev/mapper/$n")" = 40960
    luks resize "$n"
    expect_told size "$size"
    use "/dev/mapper/$n" read "$n"
    # Asleep it has no key.
    cryptsetup luksSuspend "$n"
    must_sleep Suspended
    must_fail dmsetup resume "$n"
    printf wrong | must_fail cryptsetup --batch-mode --key-file=- luksResume "$n"
    must_sleep Suspended
    luks luksResume "$n"
    must_sleep Active
    use "/dev/mapper/$n" read "$n"
    cryptsetup close "$n"
    test ! -e "/dev/mapper/$n"
    printf wrong | must_fail cryptsetup --batch-mode --key-file=- open "$disk" "$n"
}

# The key of $n's table.
volume_key() {
    dmsetup table --showkeys "$n" | cut -d' ' -f5
}

reencrypt_in_use() {
    local before
    before=$(volume_key)
    # In a single pass, and begun, in the meantime used, and ended.
    luks reencrypt $cheap --resilience checksum --active-name "$n"
    test "$(volume_key)" != "$before"
    use "/dev/mapper/$n" read "$n"
    before=$(volume_key)
    luks reencrypt $cheap --resilience journal --init-only --active-name "$n"
    expect_told reencryption in-progress
    use "/dev/mapper/$n" write "$n"
    luks reencrypt --resume-only --active-name "$n"
    expect_told reencryption ""
    test "$(volume_key)" != "$before"
    use "/dev/mapper/$n" read "$n"
}

make_encrypted() {
    life luks1
    luks reencrypt $cheap "$disk"
    luks open "$disk" "$n"
    use "/dev/mapper/$n" read "$n"
    cryptsetup close "$n"
    life luks2
    luks open "$disk" "$n"
    reencrypt_in_use
    cryptsetup close "$n"
    # Encrypted again while nobody uses it; begun only, and so it is left.
    luks reencrypt $cheap "$disk"
    luks reencrypt $cheap --init-only "$disk"
}

# After a reboot.
find_encrypted() {
    luks open "$disk" "$n"
    expect_told reencryption in-progress
    use "/dev/mapper/$n" read "$n"
    # By the device below: which volume lies on it is found out.
    luks reencrypt --resume-only "$disk"
    expect_told reencryption ""
    use "/dev/mapper/$n" read "$n"
    # A mapped device is busy for formatting.
    must_fail luks luksFormat --type luks2 $cheap "$disk"
    cryptsetup close "$n"
    must_fail cryptsetup status "$n" >/dev/null
}

# cryptsetup dies in the middle of a reencryption; nothing is lost, and another one ends it.
killed() {
    luks luksFormat --type luks2 $cheap "$disk"
    luks open "$disk" "$n"
    mkfs.ext4 -q "/dev/mapper/$n"
    use "/dev/mapper/$n" write "$n"
    luks reencrypt $cheap --init-only --active-name "$n"
    cryptsetup --batch-mode --key-file "$key" reencrypt --resume-only --hotzone-size 1M --active-name "$n" &
    local tool=$!
    # What is behind has the new key, what is ahead the old, and in between it works.
    until dmsetup info -c --noheadings -o segments "$n-overlay" 2>/dev/null | grep -qx 3; do :; done
    kill -KILL "$tool"
    local status=0
    wait "$tool" || status=$?
    test "$status" = 137
    # It may have left devices asleep. What they say is not to be trusted before cryptsetup has looked at it.
    local pieces
    pieces=$(dmsetup ls | cut -f 1 | grep "^$n-hotzone")
    dmsetup resume $pieces "$n-overlay" "$n"
    dmsetup remove "$n"
    dmsetup remove "$n-overlay"
    dmsetup remove $pieces
    luks open "$disk" "$n"
    use "/dev/mapper/$n" read "$n"
    luks reencrypt --resume-only --active-name "$n"
    expect_told reencryption ""
    use "/dev/mapper/$n" read "$n"
    cryptsetup close "$n"
}

# Without a header; $1 is write or read.
plain() {
    local key=$folder/plain-key
    head -c 64 /dev/zero | tr '\0' k >"$key"
    cryptsetup --batch-mode open --type plain --cipher aes-xts-plain64 --key-size 512 --key-file "$key" "$disk" "$n"
    expect_told type PLAIN
    case $1 in
    write)
        mkfs.ext4 -q "/dev/mapper/$n"
        use "/dev/mapper/$n" write "$n"
        must_fail blkid -p -s TYPE -o value "$disk"
        ;;
    esac
    use "/dev/mapper/$n" read "$n"
    cryptsetup close "$n"
}
