//! Whose a commit is. What git says of an author anybody can write, so this hub names one of its users only with
//! proof: a commit that was made here by the user's own credential, or that came by a push with that credential and
//! gives an address of the same user. All other names are shown so that nobody takes them for a user's.

use bastide_core::refs::is_invisible;
use bastide_core::{Actor, NamespaceId};
use bastide_git::Person;
use bastide_ledger::Context;
use bastide_store::git::Makers;
use bastide_store::{Reader, accounts};

pub use bastide_store::git::User;

use crate::Problem;

/// The addresses that this hub writes into commits. The domain is one that nobody can have.
const NOREPLY: &str = "users.noreply.bastide.invalid";
/// What stands behind a name without proof. No user's name has such characters.
const UNVERIFIED: &str = "(unverified)";
/// Letters of such a name that are shown: what stands behind is not pushed out of sight.
const SHOWN_NAME: usize = 80;
const SHOWN_ADDRESS: usize = 254;

/// The author of a commit, as far as this hub knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Author {
    User(User),
    /// The name that git gives, which nobody has proved.
    Unverified(String),
}

impl Author {
    pub(crate) fn unverified(person: &Person) -> Self {
        Self::Unverified(shown(&person.name, SHOWN_NAME))
    }

    /// How the author is called, unmistakably.
    pub fn label(&self) -> String {
        match self {
            Self::User(user) => user.name.clone(),
            Self::Unverified(name) => format!("{name} {UNVERIFIED}"),
        }
    }
}

/// Who a commit says it is from. Addresses stay private.
pub(crate) fn author(context: &Context) -> Person {
    let name = match context.actor() {
        Actor::User { name, .. } => name.to_string(),
        Actor::System(_) | Actor::Operator | Actor::Anonymous => "bastide".to_owned(),
    };
    let email = noreply(&name);
    Person { name, email }
}

fn noreply(name: &str) -> String {
    format!("{}@{NOREPLY}", name.to_ascii_lowercase())
}

/// How an author is named in the message of a squash, in `Co-authored-by`: a user of this hub by the address that
/// this hub gives, somebody else by the words of the commit. Whoever only claims to be a user here is not named.
pub(crate) fn co_author(person: &Person, makers: Option<&Makers>) -> Option<Person> {
    if let Some(user) = makers.and_then(|makers| makers.author.as_ref()) {
        return Some(Person { name: user.name.clone(), email: noreply(&user.name) });
    }
    let email = shown(&person.email, SHOWN_ADDRESS);
    let claims_user = email.to_ascii_lowercase().contains(NOREPLY);
    let name = Author::unverified(person).label();
    (!claims_user).then_some(Person { name, email })
}

/// Whose commits the credential behind a push can prove.
pub(crate) struct Proof {
    user: Option<NamespaceId>,
    addresses: Vec<String>,
}

impl Proof {
    pub async fn of(read: &mut Reader, context: &Context) -> Result<Self, Problem> {
        let Actor::User { id, name } = context.actor() else {
            return Ok(Self { user: None, addresses: Vec::new() });
        };
        let own = accounts::email_of(read, *id).await?.filter(|email| !email.is_empty());
        let addresses = own.into_iter().chain([noreply(&name.to_string())]).collect();
        Ok(Self { user: Some(*id), addresses })
    }

    pub const fn user(&self) -> Option<NamespaceId> {
        self.user
    }

    /// The user who has written a commit, where it is the one who pushes.
    pub fn author(&self, person: &Person) -> Option<NamespaceId> {
        let own = self.addresses.iter().any(|address| address.eq_ignore_ascii_case(&person.email));
        self.user.filter(|_| own)
    }
}

/// Words of others as one short line, without what does not show or turns its neighbours.
fn shown(text: &str, limit: usize) -> String {
    let visible = |c: &char| !is_invisible(*c) && !c.is_control();
    let words: Vec<String> = text
        .split_whitespace()
        .map(|word| word.chars().filter(visible).collect::<String>())
        .filter(|word| !word.is_empty())
        .collect();
    let line = words.join(" ");
    match line.chars().count() {
        0 => "unknown".to_owned(),
        length if length > limit => format!("{}…", line.chars().take(limit - 1).collect::<String>()),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(name: &str, email: &str) -> Person {
        Person { name: name.into(), email: email.into() }
    }

    #[test]
    fn a_name_without_proof_cannot_be_a_users() {
        for name in ["ann", "ann\u{202e}", "  ann\u{a0}", "\u{200b}ann\t", "", &"ann ".repeat(500)] {
            let label = Author::unverified(&person(name, "a@b")).label();
            assert!(label.parse::<bastide_core::Name>().is_err(), "{label}");
            assert!(label.ends_with(" (unverified)") && label.chars().count() < 100, "{label}");
            assert!(!label.contains(is_invisible) && !label.contains("  "), "{label:?}");
        }
    }

    #[test]
    fn only_proof_makes_a_co_author_of_a_user() {
        let ann = User { id: NamespaceId::from_i64(1), name: "Ann".into() };
        let proved = Makers { author: Some(ann), pusher: None };
        let found = co_author(&person("x", "x@y"), Some(&proved)).unwrap();
        assert_eq!((&*found.name, &*found.email), ("Ann", "ann@users.noreply.bastide.invalid"));
        let pushed = Makers { author: None, pusher: proved.author };
        let other = co_author(&person("Jo  Doe", "jo@x.org"), Some(&pushed)).unwrap();
        assert_eq!((&*other.name, &*other.email), ("Jo Doe (unverified)", "jo@x.org"));
        for claimed in ["ann@users.noreply.bastide.invalid", "ANN@Users.NoReply.bastide.invalid."] {
            assert_eq!(co_author(&person("ann", claimed), Some(&pushed)), None);
            assert_eq!(co_author(&person("ann", claimed), None), None);
        }
    }
}
