//! Closed sets of names, as they are written in a file.

use clap::ValueEnum;
use ron_kernel::message::{Overflow, PartitionBy};
use ron_kernel::supervisor::{RestartPolicy, Strategy};
use ron_runtime::Allocation;

use crate::cli::{MetricsDetail, OnCritical};
use crate::logging::{Format, Level};

/// A value that is one of a few.
pub(super) trait Choice {
    fn names(&self) -> Vec<String>;
    fn name(&self) -> String;
    /// Takes the value of that name, if there is one.
    fn choose(&mut self, name: &str) -> bool;
}

macro_rules! kernels {
    ($type:ident: $($name:literal = $variant:ident),*) => {
        impl Choice for $type {
            fn names(&self) -> Vec<String> {
                vec![$($name.to_owned()),*]
            }

            fn name(&self) -> String {
                match self {
                    $(Self::$variant => $name.to_owned()),*
                }
            }

            fn choose(&mut self, name: &str) -> bool {
                match name {
                    $($name => *self = Self::$variant,)*
                    _ => return false,
                }
                true
            }
        }
    };
}

kernels!(RestartPolicy: "permanent" = Permanent, "on-failure" = OnFailure, "never" = Never);
kernels!(Overflow: "drop-oldest" = DropOldest, "drop-newest" = DropNewest, "reject" = Reject);
kernels!(Allocation: "auto" = Auto, "pooling" = Pooling, "on-demand" = OnDemand);
kernels!(PartitionBy: "nothing" = Nothing, "topic" = Topic);
kernels!(Strategy: "one-for-one" = OneForOne, "one-for-all" = OneForAll,
    "rest-for-one" = RestForOne);

/// Those that are flags too have their names from there.
macro_rules! flags {
    ($($type:ident),*) => {$(
        impl Choice for $type {
            fn names(&self) -> Vec<String> {
                Self::value_variants().iter().map(Choice::name).collect()
            }

            fn name(&self) -> String {
                self.to_possible_value().map_or_else(String::new, |own| own.get_name().to_owned())
            }

            fn choose(&mut self, name: &str) -> bool {
                Self::from_str(name, false).map(|value| *self = value).is_ok()
            }
        }
    )*};
}

flags!(Format, Level, MetricsDetail, OnCritical);
