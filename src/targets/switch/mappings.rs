//! The words of `set_region_mappings`: all numbers are hexadecimal.
//!
//! | word | sets |
//! |---|---|
//! | `R:P` | region R to path P |
//! | `:P` | the region after the one that was set last (region 1 at first) to path P |
//! | `RN,M` | the M regions after that to the paths of the N regions before each, over and over |

use super::regions::Regions;
use crate::target::MessageError;

/// Sets what `words` say, up to one that is wrong (dm-switch.c: process_set_region_mappings).
///
/// # Errors
/// EINVAL with the kernel's line.
pub(super) fn set_mappings(regions: &Regions, words: &[&str]) -> Result<(), MessageError> {
    let mut last = 0;
    for word in words {
        match word.strip_prefix(['R', 'r']) {
            Some(cycle) => repeat(regions, &mut last, word, cycle)?,
            None => set(regions, &mut last, word)?,
        }
    }
    Ok(())
}

/// Words that set what was set of `regions`.
pub(super) fn mappings(regions: &Regions) -> Vec<String> {
    let mut words = Vec::new();
    // The region that was told last and its path, and for how many more it holds.
    let mut last: Option<(u64, u64)> = None;
    let mut more = 0;
    for (region, path) in regions.set_ones() {
        match last {
            Some((before, same)) if before + 1 == region && same == path => more += 1,
            before => {
                words.extend((more > 0).then(|| format!("R1,{more:x}")));
                more = 0;
                words.push(match before {
                    Some((before, _)) if before + 1 == region => format!(":{path:x}"),
                    _ => format!("{region:x}:{path:x}"),
                });
            }
        }
        last = Some((region, path));
    }
    words.extend((more > 0).then(|| format!("R1,{more:x}")));
    words
}

fn refuse(word: &str) -> MessageError {
    MessageError::invalid(
        format!("switch: invalid set_region_mappings argument: '{word}'"),
        "<region>:<path>, :<path> or R<n>,<m>, numbers in hexadecimal",
    )
}

/// The number that `text` begins with, 0 where it begins with none, and the rest. Beyond 64 bits its upper digits
/// are lost, as in the kernel.
fn hexadecimal(text: &str) -> (u64, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_hexdigit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let number = digits.chars().filter_map(|digit| digit.to_digit(16));
    let number = number.fold(0, |number, digit| number << 4 | u64::from(digit));
    (number, rest)
}

/// Sets one region.
fn set(regions: &Regions, last: &mut u64, word: &str) -> Result<(), MessageError> {
    let (region, rest) = hexadecimal(word);
    *last = match word.starts_with(':') {
        true => last.wrapping_add(1),
        false => region,
    };
    let path = rest.strip_prefix(':').filter(|path| !path.is_empty());
    let path = match path.map(hexadecimal) {
        Some((path, "")) => path,
        Some(_) | None => return Err(refuse(word)),
    };
    let (count, n_paths) = (regions.count(), regions.n_paths());
    if *last >= count {
        return Err(MessageError::invalid(
            format!("switch: invalid set_region_mappings region number: {last} >= {count}"),
            format!("a region below {count:x} (hexadecimal)"),
        ));
    }
    if path >= n_paths {
        return Err(MessageError::invalid(
            format!("switch: invalid set_region_mappings device: {path} >= {n_paths}"),
            format!("a path below {n_paths:x} (hexadecimal)"),
        ));
    }
    regions.set(*last, path);
    Ok(())
}

/// Goes on with the paths of the regions before; `cycle` is the word without its R.
fn repeat(regions: &Regions, last: &mut u64, word: &str, cycle: &str) -> Result<(), MessageError> {
    if cycle.starts_with(',') {
        return Err(refuse(word));
    }
    let (cycle, rest) = hexadecimal(cycle);
    let number = rest.strip_prefix(',').filter(|number| !number.is_empty());
    let number = match number.map(hexadecimal) {
        Some((number, "")) => number,
        Some(_) | None => return Err(refuse(word)),
    };
    if cycle == 0 || cycle - 1 > *last {
        let cycle = cycle.wrapping_sub(1);
        return Err(MessageError::invalid(
            format!("switch: invalid set_region_mappings cycle length: {cycle} > {last}"),
            format!(
                "R1 to R{:x}, as many regions as there are up to the last one",
                last.saturating_add(1)
            ),
        ));
    }
    let count = regions.count();
    if last.checked_add(number).is_none_or(|end| end >= count) {
        return Err(MessageError::invalid(
            format!(
                "switch: invalid set_region_mappings region number: {last} + {number} >= {count}"
            ),
            format!("regions below {count:x} (hexadecimal)"),
        ));
    }
    for _ in 0..number {
        *last += 1;
        regions.set(*last, regions.path(*last - cycle) as u64);
    }
    Ok(())
}
