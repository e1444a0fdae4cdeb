# The life of logical volumes, by lvm itself. Sourced: $folder is for scratch, $pv a block device of 96 MiB or more; `use`
# says how a device is used as a file system.
set -eu

# A name that no other group of the machine has.
vg=$(basename "$folder" | tr -cd a-zA-Z0-9)

export LVM_SYSTEM_DIR=$folder/lvm DM_DEV_DIR=${devices:-/dev} LVM_SUPPRESS_FD_WARNINGS=1
mkdir -p "$LVM_SYSTEM_DIR" "$DM_DEV_DIR"
cat >"$LVM_SYSTEM_DIR/lvm.conf" <<CONF
devices {
    dir = "$DM_DEV_DIR"
    scan = [ "${scan:-$DM_DEV_DIR}" ]
    filter = [ "a|^$pv\$|", "r|.*|" ]
    use_devicesfile = 0
    sysfs_scan = ${sysfs:-1}
    write_cache_state = 0
    md_component_detection = 0
    multipath_component_detection = 0
}
global {
    locking_dir = "$folder/lock"
    use_lvmpolld = 0
    notify_dbus = 0
}
activation {
    monitoring = 0
    udev_sync = 0
    udev_rules = 0
}
backup {
    backup = 0
    archive = 0
}
CONF

expect() {
    local found
    found=$(lvm lvs --noheadings --separator , -o "$1" "$vg/$2" | tr -d ' ')
    [ "$found" = "$3" ] || { echo "$2: $1 is $found, expected $3"; exit 1; }
}

use_volume() {
    use "$DM_DEV_DIR/$vg/$1" "$2" "$vg-$1"
}

make_volumes() {
    lvm pvcreate -q "$pv"
    lvm vgcreate -q "$vg" "$pv"
    lvm lvcreate -q -y -W n -L 16M -n plain "$vg"
    lvm lvcreate -q -y -W n -L 16M -n grows "$vg"
    expect lv_size,segtype plain 16.00m,linear
    mkfs.ext4 -q "$DM_DEV_DIR/$vg/plain"
    use_volume plain write
    lvm lvextend -q -L 32M "$vg/plain"
    expect lv_size plain 32.00m
    resize2fs "$DM_DEV_DIR/$vg/plain" >/dev/null 2>&1
    use_volume plain read
    lvm lvrename -q "$vg" grows kept
    dd if=/dev/zero of="$DM_DEV_DIR/$vg/kept" bs=64k count=16 conv=notrunc status=none
    lvm vgchange -q -an "$vg"
    test ! -e "$DM_DEV_DIR/mapper/$vg-plain"
    lvm vgchange -q -ay "$vg"
    use_volume plain read
    lvm vgchange -q -an "$vg"
}

# After a reboot.
find_volumes() {
    lvm vgchange -q -ay "$vg"
    expect lv_size plain 32.00m
    use_volume plain read
    lvm lvremove -q -y "$vg/kept"
    lvm lvremove -q -y "$vg/plain"
    test -z "$(dmsetup ls | grep "^$vg-" || true)"
    lvm vgremove -q "$vg"
    lvm pvremove -q "$pv"
}
