//! Regions where the data of a file lies: `create --filemap` and `update_filemap`.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::extents::file_stretches;
use super::known::{Group, Known, Region};
use super::{Wanted, create_region, known, say, tag};
use crate::cli::paths::device_of_file_system;
use crate::cli::session::{Failure, Outcome, Session};
use crate::control::protocol::dm_ioctl::DevNo;
use crate::unit::SECTOR_SIZE;

const NO_EXTENTS: &str = "Cannot map file: no allocated extents.";

/// Where the data of a file lies.
struct Mapped {
    device: String,
    /// First sector and length of each stretch.
    stretches: Vec<(u64, u64)>,
}

/// Makes regions for each of `paths`, and groups of them.
pub(super) fn create(session: &mut Session<'_>, paths: &[String]) -> Outcome {
    let options = &session.options;
    if options.segments {
        return Err(Failure::new("--filemap and --segments are incompatible."));
    }
    if options.start.is_some() || options.length.is_some() {
        let line = "--filemap is incompatible with --start and --length.";
        return Err(Failure::new(line));
    }
    if options.areas.is_some() || options.areasize.is_some() {
        let line = "--filemap is incompatible with --areas and --area-size.";
        return Err(Failure::new(line));
    }
    if options.userdata.is_some() {
        let line = "--userdata is not yet supported with --filemap.";
        return Err(Failure::new(line));
    }
    if paths.is_empty() {
        return Err(Failure::new("--filemap requires a file path argument"));
    }
    for path in paths {
        let real = real_path(path)?;
        let failed = format!("Could not create regions from file {path}.");
        let mapped = map(session, &real).map_err(|failure| after(failure, &failed))?;
        if mapped.stretches.is_empty() {
            return Err(after(Failure::new(NO_EXTENTS), &failed));
        }
        create_for(session, path, &mapped)?;
    }
    Ok(())
}

fn create_for(session: &mut Session<'_>, path: &str, mapped: &Mapped) -> Outcome {
    let device = &mapped.device;
    let wanted = Wanted::read(session, device)?;
    let mut members = Vec::new();
    for &stretch in &mapped.stretches {
        members.push(create_region(session, device, stretch, &wanted)?);
    }
    if session.options.nogroup {
        for id in members {
            let line = format!("{path}: Created new region with 1 area as region ID {id}.\n");
            session.print(&line)?;
        }
        return Ok(());
    }
    let alias = match &session.options.alias {
        Some(alias) => alias.clone(),
        None => alias_of(path),
    };
    let (count, first) = (members.len(), members.first().copied().unwrap_or(0));
    tag(session, device, &Group { alias, members }, &wanted.aux)?;
    session.print(&format!(
        "{path}: Created new group with {count} region(s) as group ID {first}.\n"
    ))
}

/// Has the group `--groupid` stand for where the data of each of `paths` lies by now.
pub(super) fn update(session: &mut Session<'_>, paths: &[String]) -> Outcome {
    let Some(mut id) = session.options.groupid else {
        let line = "--groupid is required to update a filemap group.";
        return Err(Failure::new(line));
    };
    if paths.is_empty() {
        let line = "update_filemap requires a file path argument";
        return Err(Failure::new(line));
    }
    for path in paths {
        let real = real_path(path)?;
        let failed = format!("Could not update regions from file {path}");
        let mapped = map(session, &real).map_err(|failure| after(failure, &failed))?;
        let known = known(session, &mapped.device)?;
        let Some((leader, group)) = known.group(id) else {
            let line = format!("Group ID {id} does not exist.");
            return Err(after(Failure::new(line), &failed));
        };
        if mapped.stretches.is_empty() {
            session.tell(&Failure::new(NO_EXTENTS));
        }
        let members = replace(session, &mapped, &known, (leader, group))?;
        let count = members.len();
        let first = members.first().copied().unwrap_or(id);
        if first != id {
            let line = format!("Group ID changed from {id} to {first}");
            session.tell(&Failure::new(line));
            id = first;
        }
        session.print(&format!(
            "{path}: Updated group ID {id} with {count} region(s).\n"
        ))?;
    }
    Ok(())
}

/// Keeps the regions of a group that lie where the file lies, with what they have counted; deletes the others and makes
/// what is missing. Gives the numbers of the regions, rising.
fn replace(
    session: &mut Session<'_>,
    mapped: &Mapped,
    known: &Known,
    (leader, group): (&Region, &Group),
) -> Outcome<Vec<u32>> {
    let device = &mapped.device;
    let lies_there = |region: &&Region| mapped.stretches.contains(&(region.start, region.len));
    let regions = known.regions.iter();
    let (kept, gone): (Vec<&Region>, Vec<&Region>) = regions
        .filter(|region| group.members.contains(&region.id))
        .partition(lies_there);
    for region in gone {
        say(session, device, &["@stats_delete", &region.id.to_string()])?;
    }
    let wanted = Wanted::like(leader);
    let mut members: Vec<u32> = kept.iter().map(|region| region.id).collect();
    for &(start, len) in &mapped.stretches {
        if !kept
            .iter()
            .any(|region| (region.start, region.len) == (start, len))
        {
            members.push(create_region(session, device, (start, len), &wanted)?);
        }
    }
    members.sort_unstable();
    if !members.is_empty() {
        // A region that came to stand for the group does so alone.
        if members.first() != Some(&leader.id) && members.contains(&leader.id) {
            let words = ["@stats_set_aux", &leader.id.to_string(), &leader.user_data];
            say(session, device, &words)?;
        }
        let alias = group.alias.clone();
        let members = members.clone();
        tag(
            session,
            device,
            &Group { alias, members },
            &leader.user_data,
        )?;
    }
    Ok(members)
}

fn real_path(path: &str) -> Outcome<PathBuf> {
    let line = || format!("Could not canonicalize file name: {path}");
    Path::new(path)
        .canonicalize()
        .map_err(|_| Failure::new(line()))
}

/// Finds the device that a file lies on, and where.
fn map(session: &mut Session<'_>, path: &Path) -> Outcome<Mapped> {
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", path.display()));
    let found = fs::metadata(path).map_err(failed)?;
    if !found.is_file() {
        return Err(Failure::new("Not a regular file"));
    }
    let dev = DevNo::new(
        rustix::fs::major(found.dev()),
        rustix::fs::minor(found.dev()),
    );
    let mountpoint = session.mount()?.mountpoint.clone();
    let Some((stored, shift)) = device_of_file_system(dev, &mountpoint) else {
        return Err(Failure::new("Cannot map file: not a device-mapper device."));
    };
    let file = File::open(path).map_err(failed)?;
    let stretches = file_stretches(&file).map_err(|error| {
        Failure::new(format!(
            "Cannot map file: where its data lies is not told: {error}"
        ))
    })?;
    let sectors = stretches.iter().map(|stretch| {
        let start = (stretch.at.0 / SECTOR_SIZE).saturating_add(shift);
        (start, stretch.len.0.div_ceil(SECTOR_SIZE))
    });
    Ok(Mapped {
        device: session.shown(&stored)?,
        stretches: sectors.collect(),
    })
}

fn alias_of(path: &str) -> String {
    let name = Path::new(path).file_name();
    let name = name.map(|name| name.to_string_lossy().into_owned());
    // A word of a message, with what groups are noted by.
    name.unwrap_or_default()
        .replace([' ', '#', ':', '\t', '\n'], "_")
}

fn after(mut failure: Failure, line: &str) -> Failure {
    failure.lines.push(line.to_owned());
    failure
}
