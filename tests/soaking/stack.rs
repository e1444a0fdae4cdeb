//! Random stacks of every registered target, each row built as the target's own model row says.

use crate::dice::Dice;
use dmfs::target::{Behaviour, ModelRow};
use dmfs::targets::KINDS;
use std::path::{Path, PathBuf};

/// Sectors that a device has to have for a row to lie on it.
const BELOW: u64 = ModelRow::DEVICE_LEN.0;

/// A device's table, and the devices and files it lies on.
#[derive(Clone, Debug)]
pub struct Stack {
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    kind: &'static str,
    len: u64,
    args: String,
    behaves: Behaviour,
    below: Vec<Below>,
}

#[derive(Clone, Debug)]
enum Below {
    /// A file, its size in sectors.
    File(PathBuf, u64),
    /// A device of its own, by name.
    Device(String, Stack),
}

/// Which kinds of rows may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// All: it is the table's only row.
    Alone,
    /// Those that may have others beside them.
    Any,
    /// Of these the ones that keep what is written.
    Disk,
}

/// Makes stacks whose files and lower devices have names that nothing had before.
#[derive(Debug)]
pub struct Maker {
    folder: PathBuf,
    made: u64,
}

impl Maker {
    /// Files lie in `folder`.
    pub fn new(folder: &Path) -> Maker {
        Maker {
            folder: folder.to_owned(),
            made: 0,
        }
    }

    /// A name with a number that was not given before.
    pub fn name(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}{}", self.made)
    }

    /// A stack of at most `depth` devices on one another, of any targets.
    pub fn stack(&mut self, dice: &mut Dice, depth: usize) -> Stack {
        let n_rows = 1 + dice.below(5);
        let choice = match n_rows {
            1 => Choice::Alone,
            _ => Choice::Any,
        };
        let rows = (0..n_rows).map(|_| self.row(dice, depth, choice));
        Stack {
            rows: rows.collect(),
        }
    }

    /// One that others can lie on: long enough, and a disk from end to end.
    fn lower(&mut self, dice: &mut Dice, depth: usize) -> Stack {
        let mut stack = Stack { rows: Vec::new() };
        while stack.len() < BELOW {
            let row = self.row(dice, depth, Choice::Disk);
            stack.rows.push(row);
        }
        stack
    }

    fn row(&mut self, dice: &mut Dice, depth: usize, choice: Choice) -> Row {
        let models: Vec<(&'static str, &ModelRow)> = KINDS
            .iter()
            .filter(|kind| choice == Choice::Alone || !kind.rules.singleton)
            .flat_map(|kind| kind.model.iter().map(|row| (kind.name, row)))
            .filter(|(_, row)| choice != Choice::Disk || row.behaves == Behaviour::Disk)
            .collect();
        let (kind, model) = models[dice.below(models.len() as u64) as usize];
        let n_below = (0..).take_while(|index| model.args.contains(&format!("{{{index}}}")));
        let below = n_below.map(|_| self.below(dice, depth)).collect();
        Row {
            kind,
            len: model.len,
            args: model.args.to_owned(),
            behaves: model.behaves,
            below,
        }
    }

    fn below(&mut self, dice: &mut Dice, depth: usize) -> Below {
        if depth > 1 && dice.below(4) == 0 {
            let name = self.name("low");
            return Below::Device(name, self.lower(dice, depth - 1));
        }
        let name = self.name("file");
        Below::File(self.folder.join(name), BELOW)
    }
}

impl Stack {
    /// Length in sectors.
    pub fn len(&self) -> u64 {
        self.rows.iter().map(|row| row.len).sum()
    }

    /// Its table, for the command line.
    pub fn table(&self) -> String {
        self.lines(|row| vec![(0, row.len, row.args_at(0))])
    }

    /// A table that says the same in other words: linear rows are cut in two.
    pub fn table_in_other_words(&self, dice: &mut Dice) -> String {
        self.lines(|row| {
            let cut = match row.kind {
                "linear" => 1 + dice.below(row.len - 1),
                _ => return vec![(0, row.len, row.args_at(0))],
            };
            vec![
                (0, cut, row.args_at(0)),
                (cut, row.len - cut, row.args_at(cut)),
            ]
        })
    }

    fn lines(&self, mut pieces: impl FnMut(&Row) -> Vec<(u64, u64, String)>) -> String {
        let mut text = String::new();
        let mut start = 0;
        for row in &self.rows {
            for (at, len, args) in pieces(row) {
                text += &format!("{} {len} {} {args}\n", start + at, row.kind);
            }
            start += row.len;
        }
        text
    }

    /// Stretches of the device, with what each behaves like: start and length in bytes.
    pub fn stretches(&self) -> Vec<(u64, u64, Behaviour)> {
        let mut start = 0;
        let stretch = |row: &Row| {
            let stretch = (start * 512, row.len * 512, row.behaves);
            start += row.len;
            stretch
        };
        self.rows.iter().map(stretch).collect()
    }

    /// The files, with their sizes in bytes.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let each = self.rows.iter().flat_map(|row| &row.below);
        each.flat_map(|below| match below {
            Below::File(path, sectors) => vec![(path.clone(), sectors * 512)],
            Below::Device(_, stack) => stack.files(),
        })
        .collect()
    }

    /// The devices below it, each after those that it lies on.
    pub fn lower_devices(&self) -> Vec<(&str, &Stack)> {
        let each = self.rows.iter().flat_map(|row| &row.below);
        each.flat_map(|below| match below {
            Below::File(..) => Vec::new(),
            Below::Device(name, stack) => {
                let mut all = stack.lower_devices();
                all.push((name.as_str(), stack));
                all
            }
        })
        .collect()
    }
}

impl Row {
    /// The arguments of the part that begins `skipped` sectors into the row; only linear rows can be cut.
    fn args_at(&self, skipped: u64) -> String {
        let mut args = self.args.clone();
        if let (true, Some((device, at))) = (skipped > 0, self.args.split_once(' ')) {
            args = format!("{device} {}", at.parse::<u64>().unwrap() + skipped);
        }
        for (index, below) in self.below.iter().enumerate() {
            let path = match below {
                Below::File(path, _) => path.display().to_string(),
                Below::Device(name, _) => format!("/dev/mapper/{name}"),
            };
            args = args.replace(&format!("{{{index}}}"), &path);
        }
        args
    }
}
