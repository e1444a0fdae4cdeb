//! `stats VERB`, also as `dmstats VERB`: regions of devices of which statistics are kept, as libdm's dm-stats makes
//! them out of messages.

mod extents;
mod files;
mod known;
mod picture;
mod reports;

use crate::cli::report::unit_bytes;
use crate::cli::session::{Failure, Outcome, Session};
use crate::cli::task::Kind;
use crate::control::protocol::dm_ioctl::payload::{message, read_reply, read_rows};

use known::{Group, Known, Region, members_text, parse_members};

/// Who asks for statistics, where nobody says.
const PROGRAM: &str = "dmstats";

const USAGE: &str = "stats create [--start START] [--length LENGTH] [--areas N | --areasize SIZE] [--bounds BOUNDS] [--precise]
             [--programid ID] [--userdata DATA] [--segments [--alias NAME | --nogroup]] DEVICE...
stats create --filemap [--bounds BOUNDS] [--precise] [--programid ID] [--alias NAME | --nogroup] FILE...
stats update_filemap --groupid ID FILE...
stats delete|clear|print [--clear] --regionid ID | --allregions | --groupid ID DEVICE...
stats list|report [--area] [--region] [--group] [--histogram [--relative]] [-o FIELDS] [DEVICE...]
stats report [--svg] [--count N] [--interval SECONDS] [DEVICE...]
stats group --regions LIST [--alias NAME] DEVICE...
stats ungroup --groupid ID DEVICE...
stats help|version
DEVICE... may be --alldevices; --programid ID or --allprograms choose regions
";

/// `stats VERB [DEVICE...]`
pub fn run(session: &mut Session<'_>, words: &[String]) -> Outcome {
    let Some((verb, devices)) = words.split_first() else {
        session.tell_text(USAGE)?;
        return Err(Failure::told().final_word());
    };
    let each = |session: &mut Session<'_>, run: fn(&mut Session<'_>, &str) -> Outcome| {
        for device in named(session, devices)? {
            run(session, &device)?;
        }
        Ok(())
    };
    match verb.as_str() {
        "help" => session.print(USAGE),
        "version" => crate::cli::verbs::versions::version(session, &[]),
        "create" if session.options.allregions => {
            Err(Failure::new("Cannot use --allregions with create."))
        }
        "create" if session.options.filemap => files::create(session, devices),
        "create" => each(session, create),
        "update_filemap" => files::update(session, devices),
        "delete" => {
            if session.options.groupid.is_none() {
                need_region(
                    session,
                    "Please specify a --regionid or --groupid, or use --allregions.",
                )?;
            }
            each(session, delete)
        }
        "clear" => {
            need_region(session, "Please specify a --regionid or use --allregions.")?;
            each(session, clear)
        }
        "print" => {
            need_region(session, "Please specify a --regionid or use --allregions.")?;
            each(session, print)
        }
        "group" if session.options.regions.is_none() => {
            Err(Failure::new("Group requires --regions."))
        }
        "group" => each(session, group),
        "ungroup" if session.options.groupid.is_none() => {
            Err(Failure::new("Please specify group id."))
        }
        "ungroup" => each(session, ungroup),
        "list" => reports::list(session, devices),
        "report" if session.options.svg => picture::draw(session, devices),
        "report" => reports::report(session, devices),
        _ => {
            session.tell(&Failure::new("Unknown stats command."));
            session.tell_text(USAGE)?;
            Err(Failure::told().final_word())
        }
    }
}

fn need_region(session: &Session<'_>, otherwise: &str) -> Outcome {
    match session.options.allregions || session.options.regionid.is_some() {
        true => Ok(()),
        false => Err(Failure::new(otherwise)),
    }
}

/// The devices that the words name, or the options; with `--alldevices` all that there are.
fn named(session: &mut Session<'_>, words: &[String]) -> Outcome<Vec<String>> {
    if session.options.alldevices {
        return every(session);
    }
    if !words.is_empty() {
        return Ok(words.to_vec());
    }
    let by_option = session.options.uuid.is_some() || session.options.major.is_some();
    if !by_option {
        let line = "Please specify device(s) or use --alldevices.";
        return Err(Failure::new(line));
    }
    let task = session.task(Kind::Info, None)?;
    let answer = session.run(&task)?;
    if !answer.exists {
        return Err(Failure::new("Device does not exist."));
    }
    Ok(vec![session.shown(&answer.header.name)?])
}

/// Those that words name, else all.
fn named_or_all(session: &mut Session<'_>, words: &[String]) -> Outcome<Vec<String>> {
    let by_option = session.options.uuid.is_some() || session.options.major.is_some();
    match words.is_empty() && !by_option {
        true => every(session),
        false => named(session, words),
    }
}

fn every(session: &mut Session<'_>) -> Outcome<Vec<String>> {
    let listed = session.list()?;
    let names = listed.iter().map(|device| session.shown(&device.name));
    names.collect()
}

/// Sends a message to a device and gives the answer.
fn say(session: &mut Session<'_>, device: &str, words: &[&str]) -> Outcome<String> {
    let task = session.task(Kind::Message, Some(device))?;
    let answer = session.run(&task.carrying(message(0, &words.join(" "))))?;
    let reply = read_reply(&answer.header, &answer.buffer).map_err(Failure::new)?;
    Ok(reply.unwrap_or_default())
}

/// The regions of a device that the options are about, with their groups.
fn known(session: &mut Session<'_>, device: &str) -> Outcome<Known> {
    let program = match (session.options.allprograms, &session.options.programid) {
        (true, _) => None,
        (false, Some(program)) => Some(program.clone()),
        (false, None) => Some(PROGRAM.to_owned()),
    };
    let task = session.task(Kind::Info, Some(device))?;
    if !session.run(&task)?.exists {
        return Err(Failure::new("Device does not exist."));
    }
    let words: Vec<&str> = ["@stats_list"]
        .into_iter()
        .chain(program.as_deref())
        .collect();
    let text = say(session, device, &words)?;
    Known::parse(&text).ok_or_else(|| Failure::new(format!("{device}: unknown answer: {text}")))
}

/// Sectors out of a number and a unit's letter, sectors if there is none.
fn size(option: &str, text: &Option<String>) -> Outcome<Option<u64>> {
    let Some(text) = text else { return Ok(None) };
    let end = text.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'));
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit_of = |unit: &str| match unit.chars().next() {
        None => Some(512.0),
        Some(letter) if unit.len() == 1 => unit_bytes(letter),
        Some(_) => None,
    };
    let sectors = number
        .parse::<f64>()
        .ok()
        .zip(unit_of(unit))
        .map(|(number, unit)| number * unit / 512.0)
        .filter(|sectors| (0.0..1e18).contains(sectors));
    let refuse = || Failure::new(format!("Invalid {option} argument: \"{text}\""));
    Ok(Some(sectors.ok_or_else(refuse)? as u64))
}

/// Bounds of a histogram: nanoseconds; and whether all of them are whole milliseconds.
fn bounds(text: &Option<String>) -> Outcome<(Vec<u64>, bool)> {
    let mut bounds: Vec<u64> = Vec::new();
    for word in text.iter().flat_map(|text| text.split(',')) {
        let digits = word.find(|letter: char| !letter.is_ascii_digit());
        let (number, unit) = word.split_at(digits.unwrap_or(word.len()));
        let unit = match unit {
            "s" => Some(1_000_000_000),
            "ms" => Some(1_000_000),
            "us" => Some(1_000),
            "ns" | "" => Some(1u64),
            _ => None,
        };
        let bound = number.parse::<u64>().ok().zip(unit);
        let bound = bound.and_then(|(number, unit)| number.checked_mul(unit));
        let Some(bound) = bound else {
            return Err(Failure::new(format!(
                "Invalid character in histogram: {word}"
            )));
        };
        bounds.push(bound);
    }
    let whole = bounds.iter().all(|bound| bound.is_multiple_of(1_000_000));
    Ok((bounds, whole))
}

/// What the options say of regions to be.
struct Wanted {
    step: String,
    features: Vec<String>,
    program: String,
    aux: String,
}

impl Wanted {
    fn read(session: &Session<'_>, device: &str) -> Outcome<Wanted> {
        let options = &session.options;
        if options.areas.is_some() && options.areasize.is_some() {
            let line = "Please specify one of --areas and --areasize.";
            return Err(Failure::new(line));
        }
        let step = match size("areasize", &options.areasize)? {
            Some(0) => return Err(Failure::new("Invalid areasize argument: \"0\"")),
            Some(sectors) => sectors.to_string(),
            None => format!("/{}", options.areas.unwrap_or(1).max(1)),
        };
        let (bounds, whole) = bounds(&options.bounds)?;
        if !bounds.is_sorted_by(|one, next| one < next) || bounds.first() == Some(&0) {
            return Err(Failure::new(format!(
                "Histogram boundaries must be in order of increasing magnitude.\n\
                 {device}: Could not create statistics region."
            )));
        }
        let precise = options.precise || !whole;
        Ok(Wanted {
            step,
            features: features(precise, &bounds),
            program: options.programid.clone().unwrap_or(PROGRAM.to_owned()),
            aux: options.userdata.clone().unwrap_or("-".to_owned()),
        })
    }

    /// One area that counts as `region` does.
    fn like(region: &Region) -> Wanted {
        Wanted {
            step: "/1".to_owned(),
            features: features(region.precise, &region.bounds),
            program: region.program.clone(),
            aux: "-".to_owned(),
        }
    }
}

/// The feature words of a region with a histogram of `bounds`, nanoseconds.
fn features(precise: bool, bounds: &[u64]) -> Vec<String> {
    let mut features = Vec::new();
    if precise {
        features.push("precise_timestamps".to_owned());
    }
    if !bounds.is_empty() {
        let unit = if precise { 1 } else { 1_000_000 };
        let bounds: Vec<String> = bounds
            .iter()
            .map(|bound| (bound / unit).to_string())
            .collect();
        features.push(format!("histogram:{}", bounds.join(",")));
    }
    features
}

fn create(session: &mut Session<'_>, device: &str) -> Outcome {
    let wanted = Wanted::read(session, device)?;
    let start = size("start", &session.options.start)?;
    let length = size("length", &session.options.length)?;
    let task = session.task(Kind::Table, Some(device))?;
    let answer = session.run(&task)?;
    if !answer.exists {
        let line = task.failure("No such device or address");
        return Err(Failure::new(line));
    }
    let rows = read_rows(&answer.header, &answer.buffer).map_err(Failure::new)?;
    let device_len = rows
        .last()
        .map_or(0, |row| row.start.saturating_add(row.length));
    let ranges = match (session.options.segments, start, length) {
        (true, ..) => rows.iter().map(|row| (row.start, row.length)).collect(),
        (false, None, None) => vec![(0, device_len)],
        (false, start, length) => vec![(start.unwrap_or(0), length.unwrap_or(device_len))],
    };
    let mut made = Vec::new();
    for (start, length) in ranges {
        made.push(create_one(session, device, (start, length), &wanted)?);
    }
    if session.options.segments && !session.options.nogroup {
        let alias = session.options.alias.clone().unwrap_or_default();
        let group = Group {
            alias: alias.clone(),
            members: made.clone(),
        };
        tag(session, device, &group, &wanted.aux)?;
        let named = match alias.as_str() {
            "" => String::new(),
            alias => format!(" with alias {alias}"),
        };
        let members: Vec<String> = made.iter().map(u32::to_string).collect();
        let first = made.first().copied().unwrap_or(0);
        let members = members.join(",");
        session.print(&format!(
            "Grouped regions {members} as group ID {first}{named}\n"
        ))?;
    }
    Ok(())
}

fn create_one(
    session: &mut Session<'_>,
    device: &str,
    (start, length): (u64, u64),
    wanted: &Wanted,
) -> Outcome<u32> {
    let id = create_region(session, device, (start, length), wanted)?;
    let areas = match wanted.step.strip_prefix('/') {
        Some(areas) => {
            let areas: u64 = areas.parse().map_err(Failure::new)?;
            length.div_ceil(length.div_ceil(areas).max(1))
        }
        None => length.div_ceil(wanted.step.parse::<u64>().map_err(Failure::new)?.max(1)),
    };
    session.print(&format!(
        "{device}: Created new region with {areas} area(s) as region ID {id}\n"
    ))?;
    Ok(id)
}

/// Makes a region of `length` sectors from `start` on and gives its number.
fn create_region(
    session: &mut Session<'_>,
    device: &str,
    (start, length): (u64, u64),
    wanted: &Wanted,
) -> Outcome<u32> {
    let range = format!("{start}+{length}");
    let count = wanted.features.len().to_string();
    let mut words = vec!["@stats_create", &range, &wanted.step, &count];
    words.extend(wanted.features.iter().map(String::as_str));
    words.extend([wanted.program.as_str(), wanted.aux.as_str()]);
    let id = say(session, device, &words).map_err(|mut failure| {
        let line = format!("{device}: Could not create statistics region.");
        failure.lines.push(line);
        failure
    })?;
    id.trim().parse().map_err(Failure::new)
}

/// Notes a group with its first region.
fn tag(session: &mut Session<'_>, device: &str, group: &Group, user_data: &str) -> Outcome {
    let first = group.members.first().copied().unwrap_or(0);
    let aux = group.tag(user_data);
    say(
        session,
        device,
        &["@stats_set_aux", &first.to_string(), &aux],
    )
    .map(drop)
}

/// The regions that `--regionid` or `--allregions` mean; all of them exist.
fn chosen(session: &mut Session<'_>, known: &Known) -> Outcome<Vec<u32>> {
    match (session.options.allregions, session.options.regionid) {
        (false, Some(id)) => Ok(vec![id]),
        _ => Ok(known.regions.iter().map(|region| region.id).collect()),
    }
}

fn delete(session: &mut Session<'_>, device: &str) -> Outcome {
    let known = known(session, device)?;
    if let Some(group) = session.options.groupid {
        let members = known.group(group).map(|(_, group)| group.members.clone());
        let Some(members) = members else {
            return Err(Failure::new(format!(
                "Invalid group ID: {group}\nCould not delete statistics group."
            )));
        };
        for id in members {
            say(session, device, &["@stats_delete", &id.to_string()])?;
        }
        return session.print(&format!("Deleted statistics group {group}.\n"));
    }
    for id in chosen(session, &known)? {
        if !known.regions.iter().any(|region| region.id == id) {
            return Err(Failure::new(format!(
                "Region ID {id} does not exist\nCould not delete statistics region"
            )));
        }
        leave_group(session, device, &known, id)?;
        say(session, device, &["@stats_delete", &id.to_string()])?;
    }
    Ok(())
}

/// Takes a region that goes out of the group that another region tells of.
fn leave_group(session: &mut Session<'_>, device: &str, known: &Known, id: u32) -> Outcome {
    let Some((leader, group)) = known.group_of(id).filter(|(leader, _)| leader.id != id) else {
        return Ok(());
    };
    let mut group = group.clone();
    group.members.retain(|&member| member != id);
    // Where all regions go, the one that tells of the group may have gone before.
    if session.options.allregions {
        return Ok(());
    }
    tag(session, device, &group, &leader.user_data)
}

fn clear(session: &mut Session<'_>, device: &str) -> Outcome {
    let known = known(session, device)?;
    for id in chosen(session, &known)? {
        if !known.regions.iter().any(|region| region.id == id) {
            return Err(Failure::new(format!("No such region: {id}.")));
        }
        say(session, device, &["@stats_clear", &id.to_string()])?;
    }
    Ok(())
}

fn print(session: &mut Session<'_>, device: &str) -> Outcome {
    let known = known(session, device)?;
    let verb = match session.options.clear {
        true => "@stats_print_clear",
        false => "@stats_print",
    };
    for id in chosen(session, &known)? {
        let text = say(session, device, &[verb, &id.to_string()]).map_err(|mut failure| {
            let line = "Could not print statistics region.";
            failure.lines.push(line.to_owned());
            failure
        })?;
        session.print(&text)?;
    }
    Ok(())
}

fn group(session: &mut Session<'_>, device: &str) -> Outcome {
    let text = session.options.regions.clone().unwrap_or_default();
    let known = known(session, device)?;
    let refuse =
        |why: String| Failure::new(format!("{why}\nCould not create group on {device}: {text}"));
    let members =
        parse_members(&text).ok_or_else(|| refuse(format!("Could not parse list: '{text}'")))?;
    let is_known = |id: &u32| known.regions.iter().any(|region| region.id == *id);
    if let Some(id) = members.iter().find(|id| !is_known(id)) {
        return Err(refuse(format!("Invalid region ID: {id}")));
    }
    for &id in &members {
        if let Some((leader, _)) = known.group_of(id) {
            let line = format!("Region ID {id} already a member of group ID {}", leader.id);
            return Err(refuse(line));
        }
    }
    for (one, other) in known.overlaps(&members) {
        let line = format!(
            "WARNING: region IDs {one} and {other} overlap. Some events will be counted twice."
        );
        session.tell(&Failure::new(line));
    }
    let group = Group {
        alias: session.options.alias.clone().unwrap_or_default(),
        members,
    };
    let first = group.members.first().copied().unwrap_or(0);
    let region = known.regions.iter().find(|region| region.id == first);
    let user_data = region.map_or("-".to_owned(), |region| region.user_data.clone());
    tag(session, device, &group, &user_data)?;
    let members = members_text(&group.members);
    session.print(&format!(
        "Grouped regions {members} as group ID {first} on {device}\n"
    ))
}

fn ungroup(session: &mut Session<'_>, device: &str) -> Outcome {
    let id = session.options.groupid.unwrap_or_default();
    let known = known(session, device)?;
    let Some((leader, _)) = known.group(id) else {
        return Err(Failure::new(format!(
            "Invalid group ID: {id}\nCould not delete group {id} on {device}."
        )));
    };
    let (first, user_data) = (leader.id.to_string(), leader.user_data.clone());
    say(session, device, &["@stats_set_aux", &first, &user_data])?;
    session.print(&format!("Removed group ID {id} on {device}\n"))
}
