//! What may be done to which ref: one answer for pushes, for the routes of branches and tags, and for squashing.
//! Rules of an administrator say more about branches than what holds everywhere.

use bastide_core::RefName;
use bastide_core::limits::MAX_REF_BYTES;
use bastide_ledger::{Action, Context};
use bastide_store::Reader;
use bastide_store::branch_rules;

pub use bastide_store::branch_rules::BranchRule;

use crate::access::{Access, Admin, Includes, Read, See};
use crate::repos::repo_event;
use crate::{Hub, Problem};

/// Rules of one repository.
const MAX_RULES: usize = 100;

/// What is to happen to a ref.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    Create,
    /// To a successor of where it is.
    Forward,
    /// To something else, by a push that was forced.
    Force,
    /// To something else, by an operation that is made for that: squashing, or a branch that is made anew.
    Rewrite,
    Delete,
}

/// The rules of one repository.
pub(crate) struct RefRules(Vec<BranchRule>);

impl RefRules {
    pub async fn load<L: Includes<See>>(read: &mut Reader, access: &Access<L>) -> Result<Self, Problem> {
        Ok(Self(branch_rules::list(read, access).await?))
    }

    /// May this be done by those who may write? Who may write is not asked here.
    pub fn check(&self, name: &RefName, what: Move) -> Result<(), Problem> {
        if name.is_tag() || name.is_pull_request() {
            return Ok(());
        }
        if !name.is_branch() {
            return Err(Problem::Forbidden(format!("{name} is written by this hub alone")));
        }
        let main = *name == RefName::main();
        let rule = self.rule_of(name);
        match what {
            Move::Create | Move::Forward => Ok(()),
            Move::Delete if main => Err(Problem::Forbidden("Cannot delete refs/heads/main".into())),
            Move::Delete if rule.is_some_and(|rule| !rule.allow_delete) => {
                Err(forbidden(name, rule, "deleted"))
            }
            Move::Force if main && rule.is_none() => Err(Problem::Forbidden(format!(
                "{name} is not force-pushed: merge what is there into your commits, or ask an administrator of the \
                 repository for a rule that allows it"
            ))),
            Move::Force | Move::Rewrite if rule.is_some_and(|rule| !rule.allow_force) => {
                Err(forbidden(name, rule, "moved to anything but a successor"))
            }
            Move::Force | Move::Rewrite | Move::Delete => Ok(()),
        }
    }

    /// The rule for a branch: of its very name, else the longest pattern. The main branch has one only by its name.
    fn rule_of(&self, name: &RefName) -> Option<&BranchRule> {
        let short = name.short();
        let own = self.0.iter().find(|rule| rule.pattern == short);
        if own.is_some() || *name == RefName::main() {
            return own;
        }
        let fitting = self.0.iter().filter(|rule| matches(&rule.pattern, short));
        fitting.max_by_key(|rule| (rule.pattern.len(), &rule.pattern))
    }
}

fn forbidden(name: &RefName, rule: Option<&BranchRule>, what: &str) -> Problem {
    let pattern = rule.map_or(name.short(), |rule| &rule.pattern);
    Problem::Forbidden(format!("{name} cannot be {what}: the rule for '{pattern}' forbids it"))
}

/// Does a pattern fit, in which `*` stands for anything?
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    let mut rest = rest;
    for part in parts {
        let Some(found) = rest.find(part) else { return false };
        rest = rest.get(found + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

impl Hub {
    pub async fn branch_rules(&self, access: &Access<Read>) -> Result<Vec<BranchRule>, Problem> {
        Ok(branch_rules::list(&mut self.db.read().await?, access).await?)
    }

    /// Makes or changes the rule for a branch, or for a pattern with `*`.
    pub async fn put_branch_rule(
        &self,
        context: &Context,
        access: &Access<Admin>,
        rule: &BranchRule,
    ) -> Result<(), Problem> {
        check_pattern(&rule.pattern)?;
        if rule.allow_delete && rule.pattern == RefName::main().short() {
            return Err(Problem::Invalid("the branch main cannot be deleted, whatever a rule says".into()));
        }
        let mut tx = self.write_to(context, access).await?;
        let rules = branch_rules::list(&mut tx, access).await?;
        if rules.len() >= MAX_RULES && rules.iter().all(|known| known.pattern != rule.pattern) {
            return Err(Problem::Unprocessable(format!(
                "a repository has at most {MAX_RULES} rules for branches"
            )));
        }
        branch_rules::put(&mut tx, access, rule, context.now()).await?;
        let event = repo_event(context, Action::BranchRuleSet, access.repo_id(), &access.repo().path)
            .fact("pattern", rule.pattern.as_str())
            .fact("allow_force", rule.allow_force)
            .fact("allow_delete", rule.allow_delete);
        Ok(tx.commit(event).await?)
    }

    pub async fn delete_branch_rule(
        &self,
        context: &Context,
        access: &Access<Admin>,
        pattern: &str,
    ) -> Result<(), Problem> {
        let mut tx = self.write_to(context, access).await?;
        if !branch_rules::delete(&mut tx, access, pattern).await? {
            return Err(Problem::NotFound(format!("there is no rule for the branch {pattern}")));
        }
        let event = repo_event(context, Action::BranchRuleRemove, access.repo_id(), &access.repo().path)
            .fact("pattern", pattern);
        Ok(tx.commit(event).await?)
    }
}

/// A pattern is a branch name in which some letters are `*`.
fn check_pattern(pattern: &str) -> Result<(), Problem> {
    let fits = pattern.len() <= MAX_REF_BYTES && RefName::branch(&pattern.replace('*', "x")).is_ok();
    if fits { Ok(()) } else { Err(Problem::Invalid(format!("'{pattern:.300}' names no branches"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, allow_force: bool, allow_delete: bool) -> BranchRule {
        BranchRule { pattern: pattern.into(), allow_force, allow_delete }
    }

    fn allowed(rules: &[BranchRule], name: &str, what: Move) -> bool {
        RefRules(rules.to_vec()).check(&name.parse().unwrap(), what).is_ok()
    }

    #[test]
    fn what_holds_without_rules() {
        use Move::{Create, Delete, Force, Forward, Rewrite};
        for (name, denied) in [
            ("refs/heads/main", &[Delete, Force][..]),
            ("refs/heads/x", &[]),
            ("refs/tags/x", &[]),
            ("refs/convert/x", &[Create, Forward, Force, Rewrite, Delete]),
        ] {
            for what in [Create, Forward, Force, Rewrite, Delete] {
                assert_eq!(allowed(&[], name, what), !denied.contains(&what), "{name} {what:?}");
            }
        }
    }

    #[test]
    fn the_nearest_rule_decides() {
        let rules = [
            rule("*", true, false),
            rule("release/*", false, false),
            rule("release/old", true, true),
            rule("main", true, false),
        ];
        assert!(allowed(&rules, "refs/heads/main", Move::Force));
        assert!(!allowed(&rules, "refs/heads/main", Move::Delete));
        assert!(
            !allowed(&rules, "refs/heads/x", Move::Delete) && allowed(&rules, "refs/heads/x", Move::Force)
        );
        assert!(!allowed(&rules, "refs/heads/release/1", Move::Force));
        assert!(!allowed(&rules, "refs/heads/release/1", Move::Rewrite));
        assert!(allowed(&rules, "refs/heads/release/old", Move::Delete));
        // Patterns open nothing for the main branch.
        assert!(!allowed(&[rule("*", true, true)], "refs/heads/main", Move::Force));
        assert!(!allowed(&[rule("main", false, false)], "refs/heads/main", Move::Rewrite));
    }

    #[test]
    fn patterns() {
        for (pattern, name, fits) in [
            ("*", "a/b", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "abc", true),
            ("*b*", "abc", true),
            ("a*c", "ac", true),
            ("a*bc*c", "abc", false),
            ("release/*", "release", false),
            ("*x", "xx", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
        for bad in ["", "a b", "a//b", "refs/heads/x", "a..b", "-x", "a\n", &"x".repeat(MAX_REF_BYTES + 1)] {
            assert!(check_pattern(bad).is_err(), "{bad:?}");
        }
    }
}
