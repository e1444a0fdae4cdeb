//! Whether another program can go on with what this one leaves.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::control::protocol::mount::STATE_FORMAT;

/// Asks `program` which state it can take over.
///
/// # Errors
/// Where it is not ours, or it is no dmfs.
pub fn check(program: &Path) -> Result<(), String> {
    let shown = program.display();
    let output = Command::new(program)
        .args(["generate", "state-format"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{shown}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.trim().parse::<u32>() {
        Ok(STATE_FORMAT) if output.status.success() => Ok(()),
        Ok(other) if output.status.success() => Err(format!(
            "{shown} takes over state of format {other}: this daemon leaves format {STATE_FORMAT}; unmount and \
             mount again with it"
        )),
        _ => Err(format!(
            "{shown} is no dmfs that can take over a mount (it does not know `generate state-format`)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::check;

    #[test]
    fn what_is_no_dmfs_is_refused() {
        for program in ["/bin/true", "/bin/echo", "/nonexistent", "/dev/null"] {
            let refused = check(Path::new(program));
            assert!(
                refused.as_ref().is_err_and(|why| why.contains(program)),
                "{program}: {refused:?}"
            );
        }
    }
}
