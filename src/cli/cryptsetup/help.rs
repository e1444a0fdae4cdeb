//! Help: the actions, and the options that go with one.

use super::Called;
use super::actions::{ACTIONS, ActionDef, goes_with};
use super::arguments::grammar;

/// Whether `dmfs VERB` has the action.
pub fn belongs(verb: &str, action: &ActionDef) -> bool {
    match verb {
        "luks" => action.name != "tcryptDump",
        "tcrypt" => matches!(action.name, "open" | "close" | "status" | "tcryptDump"),
        _ => matches!(action.name, "open" | "close" | "status" | "resize"),
    }
}

fn actions(called: Called) -> impl Iterator<Item = &'static ActionDef> {
    ACTIONS.iter().filter(move |action| match called {
        Called::Cryptsetup => true,
        Called::Dmfs(verb) => belongs(verb, action),
    })
}

/// What an action is called.
pub fn name(called: Called, action: &'static ActionDef) -> &'static str {
    match called {
        Called::Cryptsetup => action.name,
        Called::Dmfs(_) => action.verb,
    }
}

/// All names, for who gave another.
pub fn names(called: Called) -> String {
    let names: Vec<_> = actions(called).map(|action| name(called, action)).collect();
    names.join(", ")
}

/// The text of help: of one action, or of all.
pub fn text(called: Called, action: Option<&'static ActionDef>) -> String {
    let program = called.name();
    let Some(action) = action else {
        let mut text = format!("Usage: {program} ACTION [ARGUMENTS] [OPTIONS]\n\n");
        for action in actions(called) {
            text += &format!("  {:<18} {}\n", name(called, action), action.about);
        }
        return text + &format!("\n'{program} ACTION --help' tells its options.\n");
    };
    let options = grammar(|option| goes_with(option.long, action));
    let options = options
        .override_usage(format!(
            "{program} {} {}",
            name(called, action),
            action.usage
        ))
        .about(action.about);
    options
        .clone()
        .term_width(100)
        .render_long_help()
        .to_string()
}
