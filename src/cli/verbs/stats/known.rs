//! What `@stats_list` tells: regions, and the groups that regions tell of in what their program has noted.

/// How the note of a region that stands for a group begins.
const TAG: &str = "DMS_GROUP=";

/// A region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its number.
    pub id: u32,
    /// First sector.
    pub start: u64,
    /// Sectors.
    pub len: u64,
    /// Sectors of an area.
    pub step: u64,
    /// For whom it is.
    pub program: String,
    /// What they have noted, without the group.
    pub user_data: String,
    /// The group that it stands for.
    pub group: Option<Group>,
    /// Nanoseconds are counted.
    pub precise: bool,
    /// Where bins of its histogram end, nanoseconds.
    pub bounds: Vec<u64>,
}

/// Regions that are looked at together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name; empty if it has none.
    pub alias: String,
    /// Its regions, rising. The first one stands for it.
    pub members: Vec<u32>,
}

/// The regions of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// In the order of their numbers.
    pub regions: Vec<Region>,
}

impl Group {
    /// The note that tells of it, before what else was noted.
    pub fn tag(&self, user_data: &str) -> String {
        format!(
            "{TAG}{}:{}#{user_data}",
            self.alias,
            members_text(&self.members)
        )
    }

    /// Reads a note: the group if it tells of one, and what else was noted.
    fn parse(aux: &str) -> (Option<Group>, &str) {
        let read = || {
            let (tag, user_data) = aux.strip_prefix(TAG)?.split_once('#')?;
            let (alias, members) = tag.rsplit_once(':')?;
            let group = Group {
                alias: alias.to_owned(),
                members: parse_members(members)?,
            };
            Some((Some(group), user_data))
        };
        read().unwrap_or((None, aux))
    }
}

impl Known {
    /// Reads the lines of `@stats_list`.
    pub fn parse(text: &str) -> Option<Known> {
        let regions: Option<Vec<Region>> = text.lines().map(Region::parse).collect();
        Some(Known { regions: regions? })
    }

    /// The group with the number `id`, and the region that stands for it.
    pub fn group(&self, id: u32) -> Option<(&Region, &Group)> {
        self.groups().find(|(leader, _)| leader.id == id)
    }

    /// The group that a region is in.
    pub fn group_of(&self, region: u32) -> Option<(&Region, &Group)> {
        self.groups()
            .find(|(_, group)| group.members.contains(&region))
    }

    /// All groups.
    pub fn groups(&self) -> impl Iterator<Item = (&Region, &Group)> {
        let regions = self.regions.iter();
        regions.filter_map(|region| Some((region, region.group.as_ref()?)))
    }

    /// Pairs of `members` that have sectors in common.
    pub fn overlaps(&self, members: &[u32]) -> Vec<(u32, u32)> {
        let mut pairs = Vec::new();
        let members: Vec<&Region> = self
            .regions
            .iter()
            .filter(|region| members.contains(&region.id))
            .collect();
        for (index, one) in members.iter().enumerate() {
            for other in members.iter().skip(index + 1) {
                if one.start < other.start.saturating_add(other.len)
                    && other.start < one.start.saturating_add(one.len)
                {
                    pairs.push((one.id, other.id));
                }
            }
        }
        pairs
    }
}

impl Region {
    fn parse(line: &str) -> Option<Region> {
        let (id, rest) = line.split_once(": ")?;
        let mut words: Vec<&str> = rest.split(' ').collect();
        let bounds = words
            .last()
            .and_then(|word| word.strip_prefix("histogram:"));
        let bounds: Vec<u64> = match bounds {
            Some(bounds) => {
                let bounds: Result<_, _> = bounds.split(',').map(str::parse).collect();
                words.pop();
                bounds.ok()?
            }
            None => Vec::new(),
        };
        let precise = words.last() == Some(&"precise_timestamps");
        if precise {
            words.pop();
        }
        let (range, rest) = words.split_first()?;
        let (start, len) = range.split_once('+')?;
        let (step, rest) = rest.split_first()?;
        let (program, aux) = rest.split_first()?;
        let aux = aux.join(" ");
        let (group, user_data) = Group::parse(&aux);
        let unit = if precise { 1 } else { 1_000_000 };
        Some(Region {
            id: id.parse().ok()?,
            start: start.parse().ok()?,
            len: len.parse().ok()?,
            step: step.parse().ok().filter(|&step| step > 0)?,
            program: (*program).to_owned(),
            user_data: user_data.to_owned(),
            group,
            precise,
            bounds: bounds
                .into_iter()
                .map(|bound| bound.saturating_mul(unit))
                .collect(),
        })
    }

    /// How many areas it has.
    pub fn area_count(&self) -> u64 {
        self.len.div_ceil(self.step)
    }
}

/// `0-2,5` as numbers, rising; `None` where it is no list.
pub fn parse_members(text: &str) -> Option<Vec<u32>> {
    /// More than there can be regions worth looking at.
    const MOST: u32 = 1 << 16;
    let mut members = Vec::new();
    for word in text.split(',') {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last >= MOST {
            return None;
        }
        members.extend(first..=last);
    }
    members.sort_unstable();
    members.dedup();
    Some(members)
}

/// Numbers that rise as `0-2,5`; two that follow each other as a range, too.
pub fn members_text(members: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &member in members {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(member) => *last = member,
            _ => runs.push((member, member)),
        }
    }
    let shown = runs.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{Group, Known, members_text, parse_members};

    #[test]
    fn lists_of_regions_come_back() {
        for (text, members) in [
            ("0", vec![0]),
            ("0-1", vec![0, 1]),
            ("2-4,7", vec![2, 3, 4, 7]),
        ] {
            assert_eq!(parse_members(text).unwrap(), members);
            assert_eq!(members_text(&members), text);
        }
        assert_eq!(parse_members("3,1,2,2").unwrap(), [1, 2, 3]);
        for bad in ["", "x", "1,", "2-1", "1-x", "-1", "0-4294967295"] {
            assert_eq!(parse_members(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_the_kernel_lists_is_read() {
        let known = Known::parse(
            "0: 0+1024 1024 dmstats DMS_GROUP=al:0-1#-\n\
             1: 1024+2048 512 dmstats two words precise_timestamps histogram:10,20\n\
             4: 0+8 8 - -\n",
        )
        .unwrap();
        let [first, second, third] = &known.regions[..] else {
            panic!("{known:?}");
        };
        let group = Group {
            alias: "al".into(),
            members: vec![0, 1],
        };
        assert_eq!(
            (first.group.as_ref(), &*first.user_data),
            (Some(&group), "-")
        );
        assert_eq!(group.tag("-"), "DMS_GROUP=al:0-1#-");
        assert_eq!((&*second.user_data, second.precise), ("two words", true));
        assert_eq!((&*second.bounds, second.area_count()), (&[10, 20][..], 4));
        assert_eq!((&*third.program, third.id), ("-", 4));
        assert_eq!(known.group_of(1).unwrap().0.id, 0);
        assert!(known.group(1).is_none() && known.group_of(4).is_none());
        assert_eq!(known.overlaps(&[0, 1, 4]), [(0, 4)]);
        for bad in [
            "x",
            "0: 0+8",
            "0: 0 8 - -",
            "0: 0+8 0 - -",
            "0: 0+8 8 - - histogram:x",
        ] {
            assert_eq!(Known::parse(bad), None, "{bad}");
        }
    }
}
