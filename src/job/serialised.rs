//! How the values of a job are serialised, where serde's own way would not be what a manifest has.

/// A path as text, whatever its bytes.
pub(super) mod path {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::job) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&path.display())
    }

    pub(in crate::job) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        PathBuf::deserialize(from)
    }
}

/// A path that may not be there.
pub(super) mod paths {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(in crate::job) fn serialize<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => to.collect_str(&path.display()),
            None => to.serialize_none(),
        }
    }

    pub(in crate::job) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        Option::deserialize(from)
    }
}

/// A save: a number where it is one.
pub(super) mod step {
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Step {
        Number(u64),
        Text(String),
    }

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(in crate::job) fn serialize<S: Serializer>(step: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
        match step.as_deref().map(|step| step.parse::<u64>().map_err(|_| step)) {
            None => to.serialize_none(),
            Some(Ok(number)) => to.serialize_u64(number),
            Some(Err(text)) => to.serialize_str(text),
        }
    }

    pub(in crate::job) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        Ok(Option::<Step>::deserialize(from)?.map(|step| match step {
            Step::Number(number) => number.to_string(),
            Step::Text(text) => text,
        }))
    }
}

/// A duration in seconds.
pub(super) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(in crate::job) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(time.as_secs_f64())
    }

    pub(in crate::job) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(de::Error::custom)
    }
}
