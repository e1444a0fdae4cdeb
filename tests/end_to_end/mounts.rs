//! Every file in `mounts/` runs as it stands, and TOML that is wrong says where.

use crate::support::mount::Mount;
use crate::support::tools::word;
use rustix::process::Signal;
use std::fs;
use std::path::Path;

#[test]
fn every_example_mount_runs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mounts");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    for file in files {
        println!("{}", file.display());
        let mut mount = Mount::from_toml(&fs::read_to_string(&file).unwrap());
        let names: Vec<String> = mount
            .dmsetup(&["info", "-c", "--noheadings", "-o", "name"])
            .must()
            .lines()
            .map(|name| name.trim().to_owned())
            .collect();
        assert!(!names.is_empty(), "{} shows no device", file.display());
        for name in &names {
            assert!(mount.device(name).exists(), "{name}");
            // What is shown can be loaded again.
            let table = mount.dmfs(&["table", name]).must();
            mount.dmfs_fed(&["load", name], &table).must();
            mount.dmfs(&["resume", name]).must();
            assert_eq!(mount.dmfs(&["table", name]).must(), table);
        }
        let dump = mount.dmfs(&["dump"]).must();
        let again = mount.folder().join("again.toml");
        fs::write(&again, dump).unwrap();
        mount.signal(Signal::TERM);
        assert!(mount.wait().success());
        let words = ["mount", word(&again), word(mount.at())].map(str::to_owned);
        mount.run_daemon(&words);
        let mut listed: Vec<String> = mount
            .dmsetup(&["info", "-c", "--noheadings", "-o", "name"])
            .must()
            .lines()
            .map(|name| name.trim().to_owned())
            .collect();
        listed.sort();
        let mut names = names;
        names.sort();
        assert_eq!(listed, names, "{}: what dump wrote", file.display());
        mount.stop();
    }
}

#[test]
fn a_wrong_file_is_refused_whole_with_every_mistake() {
    let mount = Mount::start();
    let file = mount.folder().join("wrong.toml");
    fs::write(
        &file,
        "[[device]]\nname = \"a\"\ntable = \"0 8 nosuch\"\n\n\
         [[device]]\nname = \"b\"\nnonsense = 1\ntable = \"0 8 zero\"\n\n\
         [[device]]\nname = \"c\"\ntable = \"0 eight zero\"\n",
    )
    .unwrap();
    let said = mount.shell(&format!("dmfs check {}", file.display()));
    assert!(!said.status.success());
    for place in ["nosuch", "nonsense", "eight"] {
        assert!(
            said.err.contains(place),
            "{place} is not named: {}",
            said.err
        );
    }
    mount.stop();
}
