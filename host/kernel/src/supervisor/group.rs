//! Which siblings a crash takes along. Pure.

use serde::{Deserialize, Serialize};

use crate::service::ServiceId;

/// What a crash of one member means for the others. The names are OTP's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Nothing.
    #[default]
    OneForOne,
    /// All are restarted.
    OneForAll,
    /// Those that depend on it are restarted, directly or through others.
    RestForOne,
}

/// Services that share a fate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// How far a crash reaches.
    pub strategy: Strategy,
    /// The members, each with those it depends on.
    pub members: Vec<(ServiceId, Vec<ServiceId>)>,
}

impl Group {
    /// The members to restart because `crashed` did, in the order of
    /// [`members`](Self::members) and without `crashed` itself: its own restart
    /// is its own machine's. Cycles in the dependencies do no harm.
    #[must_use]
    pub fn affected(&self, crashed: &ServiceId) -> Vec<ServiceId> {
        let has = |id: &ServiceId| self.members.iter().any(|(member, _)| member == id);
        if !has(crashed) {
            return vec![];
        }
        let all = || self.members.iter().map(|(id, _)| id);
        match self.strategy {
            Strategy::OneForOne => vec![],
            Strategy::OneForAll => all().filter(|id| *id != crashed).cloned().collect(),
            Strategy::RestForOne => {
                let mut down = vec![crashed];
                let mut grew = true;
                while grew {
                    grew = false;
                    for (id, depends_on) in &self.members {
                        if !down.contains(&id) && depends_on.iter().any(|on| down.contains(&on)) {
                            down.push(id);
                            grew = true;
                        }
                    }
                }
                all().filter(|id| *id != crashed && down.contains(id)).cloned().collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(strategy: Strategy, crashed: &str, expected: &[&str]) {
        let id = |name: &str| ServiceId::parse(name).expect("a name");
        let member =
            |name: &str, on: &[&str]| (id(name), on.iter().map(|n| id(n)).collect::<Vec<_>>());
        let group = Group {
            strategy,
            members: vec![
                member("web", &["api"]),
                member("db", &[]),
                member("api", &["db"]),
                member("cron", &["cron"]),
            ],
        };
        let affected = group.affected(&id(crashed));
        assert_eq!(affected.iter().map(ServiceId::as_str).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_crash_reaches_as_far_as_the_strategy_says() {
        check(Strategy::OneForOne, "db", &[]);
        check(Strategy::OneForAll, "db", &["web", "api", "cron"]);
        check(Strategy::RestForOne, "db", &["web", "api"]);
        check(Strategy::RestForOne, "api", &["web"]);
        check(Strategy::RestForOne, "web", &[]);
        check(Strategy::RestForOne, "cron", &[]);
        check(Strategy::OneForAll, "stranger", &[]);
    }
}
