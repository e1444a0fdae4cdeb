//! Devices over devices: by our own path, by a loop device over our file, and never in a circle.

use crate::files::wait_until;
use crate::model::{assert_equal, read};
use crate::support::loop_device::LoopDevice;
use crate::support::mount::Mount;
use std::fs;
use std::os::unix::fs::FileExt;

const MIB: u64 = 1 << 20;

fn base() -> Mount {
    let mount = Mount::start();
    let file = mount.backing("base.img", MIB);
    mount.create("base", &format!("0 2048 linear {} 0\n", file.display()));
    mount
}

fn over(mount: &Mount, name: &str, from: u64, len: u64) -> String {
    format!("0 {len} linear {} {from}\n", mount.device(name).display())
}

#[test]
fn a_stack_of_ten_devices_reaches_the_file() {
    let mount = base();
    let mut below = "base".to_owned();
    for level in 0..10 {
        let name = format!("level{level}");
        mount.create(&name, &over(&mount, &below, 8, 2048 - 8 * (level + 1)));
        below = name;
    }
    let top = mount.open("level9");
    top.write_all_at(b"from the top", 0).unwrap();
    top.sync_all().unwrap();
    let file = fs::read(mount.folder().join("base.img")).unwrap();
    assert_equal(&file[80 * 512..80 * 512 + 12], b"from the top", "the file");
    let tree = mount.dmfs(&["ls", "--tree", "-o", "notrunc,ascii"]).must();
    assert_eq!(tree.lines().count(), 12, "{tree}");
    drop(top);
    mount.stop();
}

#[test]
fn a_device_below_another_is_in_use() {
    let mount = base();
    mount.create("top", &over(&mount, "base", 0, 2048));
    let info = mount.dmsetup(&["info", "base"]).must();
    assert!(info.contains("Open count:        1"), "{info}");
    let error = mount.dmsetup(&["remove", "base"]).must_fail();
    assert!(error.contains("Device or resource busy"), "{error}");
    let number = |name: &str| {
        let said = mount.dmsetup(&[
            "info",
            "-c",
            "--noheadings",
            "-o",
            "major,minor",
            "--separator",
            ", ",
            name,
        ]);
        said.must().trim().to_owned()
    };
    let deps = mount.dmsetup(&["deps", "top"]).must();
    assert_eq!(deps, format!("1 dependencies\t: ({})\n", number("base")));
    mount.dmfs(&["remove", "top"]).must();
    mount.dmfs(&["remove", "base"]).must();
    mount.stop();
}

#[test]
fn suspending_the_lower_device_holds_the_upper_one() {
    let mount = base();
    mount.create("top", &over(&mount, "base", 0, 2048));
    mount.dmfs(&["suspend", "base"]).must();
    let top = mount.open("top");
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| top.write_all_at(b"held", 0));
        for _ in 0..20 {
            mount.dmfs(&["ls"]).must();
        }
        assert!(!writer.is_finished());
        mount.dmfs(&["resume", "base"]).must();
        writer.join().unwrap().unwrap();
    });
    assert_eq!(read(&mount.open("base"), 0, 4), b"held");
    drop(top);
    mount.stop();
}

#[test]
fn a_loop_device_over_our_file_is_linked() {
    let mount = base();
    let attached = LoopDevice::attach(&mount.device("base"), &["--direct-io=on"]);
    mount.create("top", &format!("0 1024 linear {} 8\n", attached.word()));
    // One opener is the loop device, the other is the table: the loop driver is passed by.
    let info = mount.dmsetup(&["info", "base"]).must();
    assert!(info.contains("Open count:        2\n"), "{info}");
    mount.open("top").write_all_at(b"linked", 0).unwrap();
    assert_eq!(read(&mount.open("base"), 4096, 6), b"linked");
    mount.dmfs(&["remove", "top"]).must();
    drop(attached);
    // The loop driver closes the file a moment after it was told to.
    wait_until(|| mount.dmfs(&["remove", "base"]).status.success());
    mount.stop();
}

#[test]
fn a_circle_is_refused() {
    let mount = base();
    mount.create("one", &over(&mount, "base", 0, 1024));
    mount.create("two", &over(&mount, "one", 0, 1024));
    for (name, below) in [("one", "two"), ("one", "one"), ("base", "two")] {
        let error = mount
            .dmsetup_fed(&["load", name], &over(&mount, below, 0, 1024))
            .must_fail();
        assert!(
            error.contains("Too many levels of symbolic links"),
            "{name} over {below}: {error}"
        );
    }
    let symlink = mount.folder().join("way-in");
    std::os::unix::fs::symlink(mount.device("two"), &symlink).unwrap();
    let error = mount
        .dmsetup_fed(
            &["load", "one"],
            &format!("0 8 linear {} 0\n", symlink.display()),
        )
        .must_fail();
    assert!(
        error.contains("Too many levels of symbolic links"),
        "{error}"
    );
    let attached = LoopDevice::attach(&mount.device("two"), &["--direct-io=on"]);
    let error = mount
        .dmsetup_fed(
            &["load", "one"],
            &format!("0 8 linear {} 0\n", attached.word()),
        )
        .must_fail();
    assert!(
        error.contains("Too many levels of symbolic links"),
        "{error}"
    );
    drop(attached);
    // Nothing was half-loaded, and the stack still works.
    assert!(
        mount
            .dmsetup(&["info", "one"])
            .must()
            .contains("Tables present:    LIVE\n")
    );
    mount.open("two").write_all_at(b"fine", 0).unwrap();
    assert_eq!(read(&mount.open("base"), 0, 4), b"fine");
    mount.stop();
}

#[test]
fn health_of_a_stripe_goes_from_alive_to_dead() {
    let mount = base();
    mount.create("bad", "0 1024 error\n");
    mount.create("good", &over(&mount, "base", 0, 1024));
    mount.create(
        "striped",
        &format!(
            "0 2048 striped 2 8 {} 0 {} 0\n",
            mount.device("good").display(),
            mount.device("bad").display()
        ),
    );
    let health = || {
        let status = mount.dmsetup(&["status", "striped"]).must();
        status.trim_end().rsplit(' ').next().unwrap().to_owned()
    };
    let events = || {
        mount
            .dmsetup(&["info", "-c", "--noheadings", "-o", "events", "striped"])
            .must()
    };
    assert_eq!(health(), "AA");
    let before = events();
    let device = mount.open("striped");
    device.write_all_at(&[1; 4096], 0).unwrap();
    assert_eq!(health(), "AA");
    let error = device.write_all_at(&[1; 4096], 4096).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5), "{error}");
    assert_eq!(health(), "AD");
    assert_ne!(events(), before, "an error on a stripe is an event");
    drop(device);
    mount.stop();
}

#[test]
fn a_device_attached_by_us_is_freed_with_it() {
    let mount = base();
    let said = mount.dmfs(&["attach", "base"]).must();
    let device = said.trim().to_owned();
    assert!(device.starts_with("/dev/loop"), "{said}");
    use crate::support::tools::{output, run, text};
    let listed = run(
        "losetup",
        &["--noheadings", "--raw", "-O", "BACK-FILE,DIO", &device],
    );
    assert_eq!(
        listed.trim(),
        format!("{} 1", mount.device("base").display())
    );
    run("mkfs.ext4", &["-q", "-F", &device]);
    run("e2fsck", &["-f", "-n", &device]);
    mount.dmfs(&["detach", "base"]).must();
    wait_until(|| {
        !text(&output("losetup", &["--noheadings", "-O", "BACK-FILE", &device]).stdout)
            .contains("base")
    });
    let again = mount.dmfs(&["attach", "base"]).must();
    mount.stop();
    // Whoever else looks at the device just now keeps it until it closes it.
    wait_until(|| {
        let listed = output(
            "losetup",
            &["--noheadings", "-O", "BACK-FILE", again.trim()],
        );
        !text(&listed.stdout).contains("/mnt/base")
    });
}
