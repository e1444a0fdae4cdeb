//! Where this process's memory is accounted, and leaving a group whose memory is limited.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The group that daemons move to.
const OWN: &str = "dmfs";
/// What cgroup v1 shows for "no limit", and everything that is close to it.
const UNLIMITED: u64 = 1 << 60;

/// A control group that accounts memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Where its hierarchy is mounted.
    root: PathBuf,
    /// Its folder below.
    path: PathBuf,
    /// The file with the limit.
    limit: &'static str,
}

impl Group {
    /// The group of this process; `None` where no memory is accounted by groups.
    pub fn current() -> Option<Group> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        Group::find(&groups, &mounts)
    }

    /// As [`Group::current`], from the texts of /proc/self/cgroup and /proc/self/mountinfo.
    fn find(groups: &str, mounts: &str) -> Option<Group> {
        // 4:memory:/path, or in version 2 alone 0::/path
        let of = |controller: &str| {
            groups.lines().find_map(|line| {
                let mut words = line.splitn(3, ':').skip(1);
                let controllers = words.next()?;
                let path = words.next()?;
                (controllers.split(',').any(|one| one == controller)).then_some(path)
            })
        };
        let (path, kind, limit) = match of("memory") {
            Some(path) => (path, "cgroup", "memory.limit_in_bytes"),
            None => (of("")?, "cgroup2", "memory.max"),
        };
        // 36 35 98:0 /root /mount/point options - type source superoptions
        let root = mounts.lines().find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut words = after.split(' ');
            let fits = words.next()? == kind
                && (kind == "cgroup2" || words.nth(1)?.split(',').any(|one| one == "memory"));
            fits.then(|| before.split(' ').nth(4).map(PathBuf::from))?
        })?;
        let path = root.join(path.trim_start_matches('/'));
        Some(Group { root, path, limit })
    }

    /// The nearest group at or above this one that limits memory, and how much it allows, bytes.
    pub fn limited_by(&self) -> Option<(PathBuf, u64)> {
        let limits = self.chain().filter_map(|group| {
            let limit = fs::read_to_string(group.join(self.limit)).ok()?;
            let limit: u64 = limit.trim().parse().ok()?;
            (limit < UNLIMITED).then(|| (group.to_path_buf(), limit))
        });
        limits.last()
    }

    /// This group and those above it, up to the hierarchy's root.
    fn chain(&self) -> impl Iterator<Item = &Path> {
        let inside = |group: &&Path| group.starts_with(&self.root);
        self.path.ancestors().take_while(inside)
    }

    /// Moves this process (all its threads) to a group beside the highest one that limits memory.
    ///
    /// # Errors
    /// What the kernel says; EACCES or EROFS where groups are not ours to change.
    pub fn leave(&self, limited: &Path) -> io::Result<PathBuf> {
        let parent = limited
            .parent()
            .filter(|parent| parent.starts_with(&self.root));
        let own = parent.unwrap_or(&self.root).join(OWN);
        match fs::create_dir(&own) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        fs::write(own.join("cgroup.procs"), std::process::id().to_string())?;
        Ok(own)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::path::{Path, PathBuf};

    use super::Group;

    #[test]
    fn both_versions_are_found() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            34 25 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            35 25 0:31 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n";
        let first = Group::find("8:pids:/\n4:memory:/a/b\n0::/\n", mounts).unwrap();
        assert_eq!(first.path, Path::new("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(first.limit, "memory.limit_in_bytes");
        let second = Group::find("0::/user.slice/x\n", mounts).unwrap();
        assert_eq!(
            second.path,
            Path::new("/sys/fs/cgroup/unified/user.slice/x")
        );
        assert_eq!(second.limit, "memory.max");
        assert_eq!(Group::find("", mounts), None);
        assert_eq!(Group::find("4:memory:/a\n", ""), None);
    }

    #[test]
    fn the_highest_limit_is_the_one_to_leave() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_path_buf();
        let path = root.join("a/b/c");
        fs::create_dir_all(&path).unwrap();
        let limit = |at: &str, text: &str| fs::write(root.join(at).join("memory.max"), text);
        let group = Group {
            root: root.clone(),
            path,
            limit: "memory.max",
        };
        limit("a", "max\n").unwrap();
        assert_eq!(group.limited_by(), None);
        limit("a/b", "1048576\n").unwrap();
        limit("a/b/c", "4096\n").unwrap();
        assert_eq!(group.limited_by(), Some((root.join("a/b"), 1 << 20)));
        let own: PathBuf = group.leave(&root.join("a/b")).unwrap();
        assert_eq!(own, root.join("a/dmfs"));
        let moved = fs::read_to_string(own.join("cgroup.procs")).unwrap();
        assert_eq!(moved, std::process::id().to_string());
    }
}
