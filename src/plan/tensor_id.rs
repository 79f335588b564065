//! What a tensor of a checkpoint is, whatever it is called.

use crate::model::{Companion, Dialect, Family, ParamId, Place, Stored};

/// A parameter, or what goes with one, or a state of an optimizer of either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TensorId {
    /// The parameter.
    pub param: ParamId,
    /// What goes with it: a scale, a factor of an adapter. `None`: the parameter itself.
    pub companion: Option<&'static str>,
}

/// What a name of a checkpoint is.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// What the name begins with, where it is of a state of an optimizer; else empty.
    pub state: Box<str>,
    /// What is stored under the rest of it.
    pub stored: Stored,
}

impl Known {
    /// What a name is; `None`: the dialect does not know it.
    pub(super) fn of(dialect: &Dialect, name: &str) -> Option<Self> {
        match dialect.place(name) {
            Place::Stored(stored) => Some(Self { state: "".into(), stored }),
            Place::Buffer => None,
            Place::Unknown => {
                let (state, stored) = dialect.place_after(name)?;
                Some(Self { state: state.into(), stored })
            }
        }
    }

    /// The tensors in it.
    pub(super) fn ids(&self) -> impl Iterator<Item = TensorId> + '_ {
        let companion = self.stored.companion.map(|companion| companion.tail.as_str());
        self.stored.params().map(move |param| TensorId { param, companion })
    }

    /// Whether it is a parameter of the model, or several of them in one.
    pub(super) fn is_model(&self) -> bool {
        self.state.is_empty() && self.stored.companion.is_none()
    }
}

impl TensorId {
    /// The name that the tensor has by itself.
    pub(super) fn name(self, family: &'static Family) -> String {
        family.own_name(self.param, self.companion())
    }

    /// What goes with the parameter.
    pub(super) fn companion(self) -> Option<&'static Companion> {
        let tail = self.companion?;
        crate::model::companions().iter().find(|companion| companion.tail == tail)
    }
}
