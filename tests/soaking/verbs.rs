//! What a person might do to a mount under load, at random.

use crate::device::Device;
use crate::dice::Dice;
use crate::stack::Stack;
use crate::support::control::socket;
use crate::support::loop_device::LoopDevice;
use crate::support::mount::{Mount, Said};
use crate::support::tools::word;
use crate::world::{Kills, World, serving_process};
use rustix::process::{Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Devices that are worked on at the same time.
const MOST_DEVICES: usize = 6;
/// Devices on one another.
const DEPTH: usize = 3;

/// What went wrong, for people.
pub type Done = Result<(), String>;

type Verb = fn(&World, &mut Dice) -> Done;

/// The verbs and how often each is chosen.
const VERBS: &[(&str, u64, Verb)] = &[
    ("create", 6, create),
    ("remove", 4, remove),
    ("reload-same", 10, reload_same),
    ("reload-lower", 8, reload_lower),
    ("reload-fresh", 4, reload_fresh),
    ("suspend-resume", 10, suspend_resume),
    ("rename", 6, rename),
    ("message", 3, message),
    ("fail-lower", 5, fail_lower),
    ("stop-continue", 2, stop_continue),
    ("loop", 3, through_a_loop),
    ("noise", 2, noise),
    ("check", 2, check),
    ("kill", 2, kill),
];

/// Does one verb; its name.
///
/// # Errors
/// What went wrong.
pub fn one(world: &World, dice: &mut Dice) -> Result<&'static str, String> {
    let total = VERBS.iter().map(|(_, weight, _)| weight).sum();
    let mut left = dice.below(total);
    let chosen = VERBS.iter().find(|(_, weight, _)| {
        let found = left < *weight;
        left = left.saturating_sub(*weight);
        found
    });
    let (name, _, verb) = chosen.unwrap();
    world.tell(name);
    verb(world, dice).map_err(|error| format!("{name}: {error}"))?;
    Ok(name)
}

fn must(said: Said, what: &str) -> Result<String, String> {
    match said.status.success() {
        true => Ok(said.out),
        false => Err(format!("{what}: {}: {}{}", said.status, said.out, said.err)),
    }
}

fn dmfs(world: &World, words: &[&str], stdin: &str) -> Result<String, String> {
    let mount = world.mount.read().unwrap();
    // Who asks for all devices meanwhile may be told of one that is not there yet, or any more.
    let names_change = ["create", "remove", "rename"].contains(&words[0]);
    if names_change {
        world.disturb_commands();
    }
    let said = mount.dmfs_fed(words, stdin);
    if names_change {
        world.disturb_commands();
    }
    must(said, &words.join(" "))
}

fn make(world: &World, name: &str, table: &str) -> Done {
    dmfs(world, &["create", name], table).map(|_| ())
}

/// Loads `table` and makes it live, with or without a suspend of its own.
fn swap(world: &World, dice: &mut Dice, name: &str, table: &str) -> Done {
    dmfs(world, &["load", name], table)?;
    match dice.below(3) {
        0 => {}
        1 => dmfs(world, &["suspend", name], "").map(|_| ())?,
        _ => dmfs(world, &["suspend", "--noflush", name], "").map(|_| ())?,
    }
    dmfs(world, &["resume", name], "").map(|_| ())
}

fn make_below(world: &World, stack: &Stack) -> Done {
    for (path, bytes) in stack.files() {
        let made = File::create(&path).and_then(|file| file.set_len(bytes));
        made.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    for (name, lower) in stack.lower_devices() {
        make(world, name, &lower.table())?;
    }
    Ok(())
}

fn remove_below(world: &World, stack: &Stack) -> Done {
    for (name, _) in stack.lower_devices().into_iter().rev() {
        dmfs(world, &["remove", "--retry", name], "")?;
    }
    for (path, _) in stack.files() {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Opens the device's file for the workers.
pub fn open(mount: &Mount, device: &Device) -> Result<File, String> {
    let path = mount.device(&device.name.lock().unwrap());
    let opened = OpenOptions::new().read(true).write(true).open(&path);
    opened.map_err(|error| format!("{}: {error}", path.display()))
}

fn create(world: &World, dice: &mut Dice) -> Done {
    if world.devices.read().unwrap().len() >= MOST_DEVICES {
        return Ok(());
    }
    let (name, stack) = {
        let mut maker = world.maker.lock().unwrap();
        (maker.name("d"), maker.stack(dice, DEPTH))
    };
    make_below(world, &stack)?;
    make(world, &name, &stack.table())?;
    let device = Device::new(name, stack);
    let file = open(&world.mount.read().unwrap(), &device)?;
    *device.open.write().unwrap() = Some(file);
    world.devices.write().unwrap().push(Arc::new(device));
    Ok(())
}

fn remove(world: &World, dice: &mut Dice) -> Done {
    match world.any(dice) {
        Some(device) => remove_device(world, &device),
        None => Ok(()),
    }
}

/// Takes a device away, with all that it lies on.
///
/// # Errors
/// What went wrong.
pub fn remove_device(world: &World, device: &Arc<Device>) -> Done {
    let mut devices = world.devices.write().unwrap();
    devices.retain(|other| !Arc::ptr_eq(other, device));
    drop(devices);
    *device.open.write().unwrap() = None;
    let name = device.name.lock().unwrap().clone();
    dmfs(world, &["remove", "--retry", &name], "")?;
    let stack = device.stack.lock().unwrap().clone();
    remove_below(world, &stack)
}

fn reload_same(world: &World, dice: &mut Dice) -> Done {
    let Some(device) = world.any(dice) else {
        return Ok(());
    };
    let name = device.name.lock().unwrap().clone();
    let table = device.stack.lock().unwrap().table_in_other_words(dice);
    swap(world, dice, &name, &table)
}

/// A device below another, if there is one.
fn any_lower(device: &Device, dice: &mut Dice) -> Option<(String, Stack)> {
    let stack = device.stack.lock().unwrap();
    let lower = stack.lower_devices();
    let index = dice.below(lower.len() as u64) as usize;
    lower
        .get(index)
        .map(|(name, stack)| ((*name).to_owned(), (*stack).clone()))
}

fn reload_lower(world: &World, dice: &mut Dice) -> Done {
    let Some((name, stack)) = world.any(dice).and_then(|device| any_lower(&device, dice)) else {
        return Ok(());
    };
    let table = stack.table_in_other_words(dice);
    swap(world, dice, &name, &table)
}

fn reload_fresh(world: &World, dice: &mut Dice) -> Done {
    let Some(device) = world.any(dice) else {
        return Ok(());
    };
    let stack = world.maker.lock().unwrap().stack(dice, DEPTH);
    make_below(world, &stack)?;
    // Nobody works on it meanwhile: who does would not know which table answers.
    let open = device.open.write().unwrap();
    let name = device.name.lock().unwrap().clone();
    swap(world, dice, &name, &stack.table())?;
    let old = device.stack.lock().unwrap().clone();
    device.is_now(stack);
    drop(open);
    remove_below(world, &old)
}

fn suspend_resume(world: &World, dice: &mut Dice) -> Done {
    let Some(device) = world.any(dice) else {
        return Ok(());
    };
    let name = match any_lower(&device, dice) {
        Some((name, _)) if dice.below(2) == 0 => name,
        _ => device.name.lock().unwrap().clone(),
    };
    let words: &[&str] = match dice.below(2) {
        0 => &["suspend", &name],
        _ => &["suspend", "--noflush", &name],
    };
    dmfs(world, words, "")?;
    thread::sleep(Duration::from_millis(dice.below(150)));
    dmfs(world, &["resume", &name], "").map(|_| ())
}

fn rename(world: &World, dice: &mut Dice) -> Done {
    let Some(device) = world.any(dice) else {
        return Ok(());
    };
    let new = world.maker.lock().unwrap().name("d");
    let mut name = device.name.lock().unwrap();
    dmfs(world, &["rename", &name, &new], "")?;
    *name = new;
    Ok(())
}

/// A message that no target knows is refused and does no harm.
fn message(world: &World, dice: &mut Dice) -> Done {
    let Some(device) = world.any(dice) else {
        return Ok(());
    };
    let name = device.name.lock().unwrap().clone();
    let sector = dice.below(device.stack.lock().unwrap().len()).to_string();
    let mount = world.mount.read().unwrap();
    let said = mount.dmfs(&["message", &name, &sector, "no", "such", "message"]);
    match said.status.code() {
        Some(1) if !said.err.is_empty() => Ok(()),
        _ => Err(format!("{}: {}{}", said.status, said.out, said.err)),
    }
}

/// A disk below fails for a while.
fn fail_lower(world: &World, dice: &mut Dice) -> Done {
    let Some(device) = world.any(dice) else {
        return Ok(());
    };
    let Some((name, stack)) = any_lower(&device, dice) else {
        return Ok(());
    };
    device.may_fail(true);
    let failed = swap(world, dice, &name, &format!("0 {} error\n", stack.len()));
    thread::sleep(Duration::from_millis(dice.below(100)));
    let healed = swap(world, dice, &name, &stack.table());
    device.may_fail(false);
    failed.and(healed)
}

fn stop_continue(world: &World, dice: &mut Dice) -> Done {
    let mount = world.mount.read().unwrap();
    let pid = serving_process(&mount)?;
    let signal = |signal| kill_process(pid, signal).map_err(|error| error.to_string());
    signal(Signal::STOP)?;
    thread::sleep(Duration::from_millis(dice.below(500)));
    signal(Signal::CONT)
}

/// What the file holds, a loop device over it holds.
fn through_a_loop(world: &World, dice: &mut Dice) -> Done {
    let Some(device) = world.any(dice) else {
        return Ok(());
    };
    let open = device.open.write().unwrap();
    let name = device.name.lock().unwrap().clone();
    let path = world.mount.read().unwrap().device(&name);
    let attached = LoopDevice::attach(&path, &["--direct-io=on"]);
    // Around the page cache, where one bad sector takes others of its folio along.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::DIRECT.bits() as i32)
        .open(attached.path())
        .map_err(|error| format!("{}: {error}", attached.word()))?;
    let result = device.verify_all(&file);
    drop((file, attached, open));
    world.verified(result?);
    Ok(())
}

/// Callers who say nothing, or nonsense, and go.
fn noise(world: &World, dice: &mut Dice) -> Done {
    let path = socket(&world.mount.read().unwrap());
    for _ in 0..20 {
        let caller = UnixStream::connect(&path);
        let mut caller = caller.map_err(|error| format!("{}: {error}", path.display()))?;
        let len = dice.below(64) as usize;
        let _ = caller.write_all(&dice.bytes(len));
    }
    Ok(())
}

/// The present devices as a mount file, which is one.
fn check(world: &World, _dice: &mut Dice) -> Done {
    let mount = world.mount.read().unwrap();
    let file = mount.folder().join("check.toml");
    let text = must(mount.dmfs(&["dump"]), "dump")?;
    std::fs::write(&file, text).map_err(|error| error.to_string())?;
    must(mount.dmfs(&["check", word(&file)]), "check").map(|_| ())
}

/// The daemon dies, as often as that can be survived.
fn kill(world: &World, _dice: &mut Dice) -> Done {
    match world.kills {
        Kills::None => Ok(()),
        Kills::ByMountingAgain => world.kill_and_mount_again(),
        Kills::Survived => world.kill_and_see_it_survive(),
    }
}

/// Asks what changes nothing.
///
/// # Errors
/// Where it is not answered.
pub fn ask(world: &World, dice: &mut Dice) -> Done {
    let questions: [&[&str]; 8] = [
        &["ls", "--tree"],
        &["info", "-c"],
        &["status"],
        &["table"],
        &["deps"],
        &["counters"],
        &["dump"],
        &["targets"],
    ];
    let words = questions[dice.below(questions.len() as u64) as usize];
    let before = (world.deaths(), world.disturbances());
    let answer = dmfs(world, words, "");
    let after = (world.deaths(), world.disturbances());
    let is_disturbed = before != after || before.0 % 2 == 1 || before.1 % 2 == 1;
    match answer {
        Err(_) if is_disturbed => Ok(()),
        answer => answer.map(|_| ()),
    }
}
