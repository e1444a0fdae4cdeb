//! Tokens: kept for others, whose kinds they are. None is used here to open anything.

use std::fs;
use std::io::Read;

use serde_json::Value;

use super::{Context, Done};
use crate::encrypted::luks::{Id, Luks, MAX_TOKENS, Token};
use crate::encrypted::{Refused, plain_error};

/// Longest token, bytes: more than any header has room for.
const MAX_TOKEN: u64 = 4 << 20;

/// `token import|export|remove|add DEVICE`
pub fn token(context: &mut Context<'_, '_>) -> Done {
    let verb = context.word(0);
    context.arguments.words.remove(0);
    let id: Option<u32> = context.arguments.number("token-id")?;
    if id.is_some_and(|id| id >= MAX_TOKENS) {
        return Err(Refused::invalid(format!(
            "Token number: expected 0 to {}.",
            MAX_TOKENS - 1
        )));
    }
    let needed = || id.ok_or_else(|| Refused::invalid("Option --token-id is required."));
    match verb.as_str() {
        "export" => export(context, needed()?),
        "import" => {
            let token = read_token(context)?;
            put(context, id, token)
        }
        "add" => {
            let token = keyring_token(context)?;
            put(context, id, token)
        }
        "remove" => remove(context, needed()?),
        other => Err(Refused::invalid(format!(
            "Invalid token operation {other}: expected add, import, export or remove."
        ))),
    }
}

fn missing(id: u32) -> Refused {
    Refused::invalid(format!("Token {id} is not in use."))
}

fn export(context: &mut Context<'_, '_>, id: u32) -> Done {
    let mut header = context.header(false)?;
    let token = header
        .luks
        .tokens()?
        .get(&Id(id))
        .cloned()
        .ok_or_else(|| missing(id))?;
    let text =
        serde_json::to_string(&token).map_err(|error| Refused::invalid(error.to_string()))?;
    match context.arguments.text("json-file").map(str::to_owned) {
        Some(file) if file != "-" => fs::write(&file, text).map_err(|error| {
            Refused::invalid(format!("Cannot write {file}: {}.", plain_error(&error)))
        }),
        _ => context.print(&(text + "\n")),
    }
}

fn read_token(context: &Context<'_, '_>) -> Done<Token> {
    let mut text = Vec::new();
    let file = context.arguments.text("json-file").unwrap_or("-");
    let failed = |error: std::io::Error| {
        Refused::invalid(format!(
            "Failed to read JSON file {file}: {}.",
            plain_error(&error)
        ))
    };
    let mut from: Box<dyn Read> = match file {
        "-" => Box::new(std::io::stdin()),
        file => Box::new(fs::File::open(file).map_err(failed)?),
    };
    from.by_ref()
        .take(MAX_TOKEN)
        .read_to_end(&mut text)
        .map_err(failed)?;
    serde_json::from_slice(&text).map_err(|error| {
        Refused::invalid(format!(
            "The token is no JSON object with type and keyslots: {error}."
        ))
    })
}

fn keyring_token(context: &Context<'_, '_>) -> Done<Token> {
    let description = context.arguments.text("key-description");
    let description = description.ok_or_else(|| {
        Refused::invalid("Option --key-description is required for token add action.")
    })?;
    let mut rest = serde_json::Map::new();
    rest.insert("key_description".into(), Value::from(description));
    Ok(Token {
        kind: "luks2-keyring".into(),
        keyslots: Vec::new(),
        rest,
    })
}

fn put(context: &mut Context<'_, '_>, id: Option<u32>, mut token: Token) -> Done {
    let replace = context.arguments.flag("token-replace");
    let slot: Option<u32> = context.arguments.number("key-slot")?;
    let mut header = context.header(true)?;
    header.luks.check_requirements()?;
    let Luks::Two(luks) = &mut header.luks else {
        return Err(Refused::invalid("Tokens are of LUKS2 only."));
    };
    // Without --key-slot or --unbound a new token is for every slot, as in cryptsetup.
    if let Some(slot) = slot {
        if !token.keyslots.contains(&Id(slot)) {
            token.keyslots.push(Id(slot));
        }
    } else if token.kind == "luks2-keyring" && !context.arguments.flag("unbound") {
        token.keyslots = luks.metadata.keyslots.keys().copied().collect();
    }
    let tokens = &mut luks.metadata.tokens;
    let id = match id.map(Id) {
        Some(id) if tokens.contains_key(&id) && !replace => {
            return Err(Refused::invalid(format!("Token {id} in use.")));
        }
        Some(id) => id,
        None => (0..MAX_TOKENS)
            .map(Id)
            .find(|id| !tokens.contains_key(id))
            .ok_or_else(|| Refused::invalid("All tokens are in use."))?,
    };
    tokens.insert(id, token);
    header.luks.save(&header.device)?;
    context.verbose(&format!("Token {id} created.\n"))
}

fn remove(context: &mut Context<'_, '_>, id: u32) -> Done {
    let mut header = context.header(true)?;
    header.luks.check_requirements()?;
    header
        .luks
        .tokens()?
        .remove(&Id(id))
        .ok_or_else(|| missing(id))?;
    header.luks.save(&header.device)?;
    context.verbose(&format!("Token {id} removed.\n"))
}
