//! Who asks is decided by the hub from a credential: a handler cannot be anybody it likes.
use bastide_core::{Actor, Credential};
use bastide_hub::Context;

fn operator(mut context: Context) -> Context {
    context.actor = Actor::Operator;
    let made = Context { actor: Actor::Operator, credential: Credential::Local };
    bastide_ledger::context::operator(todo!());
    made
}

fn main() {}
