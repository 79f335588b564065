//! The values of options that are one of a few words: those of a job, and how they are typed.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::job::{CkptRecords, Format, Function, Fusion, Lora, Names, Precision, Reader, Reflink, Writer, Writes};

macro_rules! typed {
    ($($type:ident),+) => {
        $(impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                Self::ALL
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                let about = self.about().trim();
                Some(PossibleValue::new(self.name()).help(about.strip_suffix('.').unwrap_or(about)))
            }
        })+
    };
}

typed!(CkptRecords, Format, Function, Fusion, Lora, Names, Precision, Reader, Reflink, Writer, Writes);
